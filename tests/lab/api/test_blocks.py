"""The EBS direct APIs over the real bytes of snapshots, by boto3."""

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from drtest.lab.compute import new_id, now
from drtest.lab.disks import Disks, Layer
from drtest.lab.qcow2 import Chain
from drtest.lab.resources import Snapshot
from drtest.lab.sizes import GIB

from .conftest import REGION, Site, code_of

BLOCK = 524_288
OTHER = "210987654321"


def _reason(error: ClientError) -> Any:
    response: Any = error.response
    return response["Reason"]


@dataclass
class Bench:
    """A volume that is written to and frozen, and its snapshots in the lab's books."""

    site: Site
    disks: Disks
    ebs: Any
    volume: str = "vol-0123456789abcdef0"

    def write(self, offset: int, pattern: int, length: int = 4096) -> None:
        """Write with QEMU itself, so that the reader is held to the format and not to us."""
        command = f"write -P {pattern} {offset} {length}"
        top = str(self.disks.top(self.volume))
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, top], check=True, capture_output=True)

    def freeze(self, *, size: int = 1, lineage: tuple[str, ...] = (), **changes: Any) -> str:
        layer = self.disks.freeze([self.volume])[self.volume]
        return self.enter(layer, size=size, lineage=lineage, **changes)

    def enter(self, layer: Layer, *, size: int = 1, lineage: tuple[str, ...] = (), **changes: Any) -> str:
        given: dict[str, Any] = {
            "id": new_id("snap"),
            "owner": self.site.account,
            "region": REGION,
            "created": now(),
            "state": "completed",
            "volume": self.volume,
            "size": size,
            "layer": str(layer.path),
            "lineage": lineage or (self.volume,),
        }
        books = self.site.compute.books
        with books.open():
            snapshot = Snapshot(number=books.next_number(), **{**given, **changes})
            books.put(snapshot)
        return snapshot.id

    def listed(self, snapshot: str, **params: Any) -> dict[int, str]:
        answer = self.ebs.list_snapshot_blocks(SnapshotId=snapshot, **params)
        return {block["BlockIndex"]: block["BlockToken"] for block in answer["Blocks"]}

    def get(self, snapshot: str, index: int, token: str) -> Any:
        return self.ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)


@pytest.fixture
def bench(site: Site, tmp_path: Path) -> Bench:
    disks = Disks(tmp_path / "bench", reserve=0)
    found = Bench(site, disks, site.client("ebs"))
    disks.blank(found.volume, size=GIB)
    return found


def test_the_blocks_of_a_snapshot_are_its_bytes(bench: Bench) -> None:
    """API_ListSnapshotBlocks, API_GetSnapshotBlock: "A block index is a logical index in units of 512 KiB blocks.";
    "The checksum generated for the block, which is Base64 encoded."."""
    bench.write(0, 0x11)
    bench.write(5 * BLOCK + 65536, 0x22)
    bench.write(GIB - 4096, 0x33)
    snapshot = bench.freeze()
    bench.write(0, 0x99)
    answer = bench.ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert (answer["BlockSize"], answer["VolumeSize"]) == (BLOCK, 1)
    assert answer["ExpiryTime"] > now()
    assert "NextToken" not in answer
    tokens = bench.listed(snapshot)
    assert list(tokens) == [0, 5, 2047]
    expected = {
        0: bytes([0x11]) * 4096 + bytes(BLOCK - 4096),
        5: bytes(65536) + bytes([0x22]) * 4096 + bytes(BLOCK - 65536 - 4096),
        2047: bytes(BLOCK - 4096) + bytes([0x33]) * 4096,
    }
    for index, token in tokens.items():
        got = bench.get(snapshot, index, token)
        data = got["BlockData"].read()
        assert data == expected[index]
        assert (got["DataLength"], got["ChecksumAlgorithm"]) == (BLOCK, "SHA256")
        assert got["Checksum"] == base64.b64encode(hashlib.sha256(data).digest()).decode()


def test_changed_blocks_are_those_whose_bytes_differ(bench: Bench) -> None:
    """API_ListChangedBlocks: "Returns information about the blocks that are different between two Amazon Elastic Block
    Store snapshots of the same volume/snapshot lineage."."""
    bench.write(0, 0x11)
    bench.write(3 * BLOCK, 0x33)
    first = bench.freeze()
    bench.write(0, 0x44)  # another content
    bench.write(3 * BLOCK, 0x33)  # written again, the same
    bench.write(7 * BLOCK, 0x77)  # new
    second = bench.freeze()
    answer = bench.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    changed = {block.pop("BlockIndex"): block for block in answer["ChangedBlocks"]}
    assert list(changed) == [0, 7]
    assert set(changed[0]) == {"FirstBlockToken", "SecondBlockToken"}
    # "This value is absent if the first snapshot does not have the changed block that is on the second snapshot."
    assert set(changed[7]) == {"SecondBlockToken"}
    assert bench.get(first, 0, changed[0]["FirstBlockToken"])["BlockData"].read(1) == b"\x11"
    assert bench.get(second, 0, changed[0]["SecondBlockToken"])["BlockData"].read(1) == b"\x44"
    same = bench.ebs.list_changed_blocks(FirstSnapshotId=second, SecondSnapshotId=second)
    assert same["ChangedBlocks"] == []


def test_a_volume_that_grew_has_more_blocks(bench: Bench) -> None:
    bench.write(GIB - 4096, 0x11)
    first = bench.freeze()
    bench.disks.grow(bench.volume, size=2 * GIB)
    bench.write(2 * GIB - 4096, 0x22)
    second = bench.freeze(size=2)
    assert list(bench.listed(second)) == [2047, 4095]
    answer = bench.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    assert [block["BlockIndex"] for block in answer["ChangedBlocks"]] == [4095]
    assert answer["VolumeSize"] == 2


def test_snapshots_of_two_volumes_are_unrelated(bench: Bench) -> None:
    """API_ListChangedBlocks, ValidationException: UNRELATED_SNAPSHOTS."""
    first, second = bench.freeze(), bench.freeze(lineage=("vol-0fedcba9876543210",))
    with pytest.raises(ClientError) as caught:
        bench.ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert _reason(caught.value) == "UNRELATED_SNAPSHOTS"


def test_pages_show_all_blocks_once(bench: Bench) -> None:
    """API_ListSnapshotBlocks, MaxResults: at least 100; "If you specify NextToken, then StartingBlockIndex is
    ignored."."""
    bench.write(0, 0x11, length=250 * BLOCK)
    snapshot = bench.freeze()
    first = bench.ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100)
    assert [block["BlockIndex"] for block in first["Blocks"]] == list(range(100))
    paginated = bench.listed(snapshot, NextToken=first["NextToken"], MaxResults=100, StartingBlockIndex=240)
    assert list(paginated) == list(range(100, 200))
    assert list(bench.listed(snapshot, StartingBlockIndex=240)) == list(range(240, 250))
    with pytest.raises(ClientError, match="ValidationException") as caught:
        bench.listed(snapshot, NextToken="bm9uZQ==")
    assert _reason(caught.value) == "INVALID_PAGE_TOKEN"


def test_what_can_not_be_read_is_refused_as_documented(bench: Bench, site: Site) -> None:
    """API_GetSnapshotBlock, Errors: AccessDeniedException, ResourceNotFoundException, ValidationException."""
    bench.write(0, 0x11)
    bench.write(BLOCK, 0x22)
    snapshot = bench.freeze()
    token = bench.listed(snapshot)[0]

    def reason(snapshot: str, index: int, token: str) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            bench.get(snapshot, index, token)
        return caught.value.response["Error"]["Code"], _reason(caught.value)

    assert reason(snapshot, 1, token) == ("ValidationException", "INVALID_BLOCK_TOKEN")
    assert reason(snapshot, 0, "bm9uZQ==") == ("ValidationException", "INVALID_BLOCK_TOKEN")
    assert reason(snapshot, 2048, token) == ("ValidationException", "INVALID_BLOCK")
    gone = "snap-0123456789abcdef0"
    assert reason(gone, 0, token) == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    pending = bench.freeze(state="pending")
    assert reason(pending, 0, token) == ("ValidationException", "INVALID_SNAPSHOT_ID")
    site.endpoint.accounts["AKIASECONDACCOUNT234"] = OTHER
    other = site.client("ebs", access_key="AKIASECONDACCOUNT234")
    assert code_of(other.list_snapshot_blocks, SnapshotId=snapshot) == "AccessDeniedException"
    shared = bench.freeze(shared_with=(OTHER,))
    assert other.list_snapshot_blocks(SnapshotId=shared)["Blocks"]


def test_the_calls_that_write_are_refused_in_words_that_a_client_can_read(bench: Bench) -> None:
    assert code_of(bench.ebs.start_snapshot, VolumeSize=1) == "UnsupportedOperation"
    complete = {"SnapshotId": "snap-0123456789abcdef0", "ChangedBlocksCount": 0}
    assert code_of(bench.ebs.complete_snapshot, **complete) == "UnsupportedOperation"


@pytest.mark.parametrize("options", [[], ["-c"]], ids=["plain", "compressed"])
def test_the_reader_agrees_with_qemu(bench: Bench, tmp_path: Path, options: list[str]) -> None:
    """A chain of three files, the lowest as `qemu-img convert` made it, against what qemu-img reads of it."""
    for block in range(0, 64, 3):
        bench.write(block * 200_704, block + 1, length=150_000 // 512 * 512)
    (layer,) = bench.disks.freeze([bench.volume]).values()
    base = tmp_path / "base.qcow2"
    convert = ["qemu-img", "convert", *options, "-O", "qcow2", str(layer.path), str(base)]
    subprocess.run(convert, check=True)
    upper = "vol-0aaaaaaaaaaaaaaaa"
    bench.disks.overlay(upper, layer=Layer(base), size=GIB + 65536)
    bench.volume = upper
    bench.write(1_000_448, 0xAA, length=300_032)
    bench.disks.freeze([upper])
    bench.write(4096, 0xBB)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -z 2M 1M", str(bench.disks.top(upper))],
        check=True,
        capture_output=True,
    )
    (frozen,) = bench.disks.freeze([upper]).values()
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(frozen.path), str(raw)], check=True)
    with Chain(frozen.path) as chain, raw.open("rb") as expected:
        assert chain.size == GIB + 65536
        for offset in range(0, 32 * BLOCK, BLOCK):
            assert chain.read(offset, BLOCK) == expected.read(BLOCK), offset
        assert chain.places(2 * 1024**2, 1024**2) == (None,) * 16
