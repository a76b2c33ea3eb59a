"""Files that were deleted while open: every running server has some, and a copy of it is not damaged by them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.guest.images import ENVIRONMENT, Images, examine, root

PROGRAM = """
import os, sys
f = open("open", "wb"); f.write(b"x" * 3000000); f.flush(); os.fsync(f.fileno()); os.unlink("open")
for n in range(300): open("f%d" % n, "w").write("x")
d = os.open(".", os.O_RDONLY); os.fsync(d)
print("ready", flush=True); sys.stdin.read()
"""


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Images(tmp_path) as images:
        yield images


@contextmanager
def writer(top: Path) -> Iterator[None]:
    """A program that holds a deleted file open, the deletion flushed; and the superblock's totals are behind."""
    prefix = [] if os.getuid() == 0 else ["sudo", "-n"]
    words = [*prefix, "python3", "-c", PROGRAM]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=top, stdin=pipe, stdout=pipe, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        root("sync", "-f", top)
        yield


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
@pytest.mark.parametrize("feature", ["^orphan_file", "orphan_file"])
def test_a_file_that_was_deleted_while_open_is_no_damage(images: Images, feature: str, frozen: bool) -> None:
    image = images.made("ext4", "-O", feature)
    with images.mounted(image) as top, writer(top):
        if frozen:
            root("fsfreeze", "--freeze", top)
        try:
            copy = images.copy(image)
        finally:
            if frozen:
                root("fsfreeze", "--unfreeze", top)
    seen = examine(copy, filesystem="ext4")
    assert seen["filesystem.before"]["dirty_log"] is not frozen
    assert any("deleted while open" in note for note in seen["filesystem.before"]["notes"])
    assert seen["filesystem.replay"]["replayed"] is not frozen
    assert (seen["filesystem.check"]["clean"], seen["filesystem.check"]["problems"]) == (True, [])
