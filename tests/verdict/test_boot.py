"""UNBOOTABLE needs positive evidence, UNREACHABLE is its absence, and only the right machine's word counts."""

from typing import Any

import pytest

from drtest.verdict.console import PATTERNS, Kind, telling
from drtest.words import Capture, Verdict
from tests.verdict.story import Story

PANIC = {
    # Golden: the console of a Debian 12 guest whose root= names no partition (spikes/qemu_lab.md).
    "pattern": "Kernel panic - not syncing",
    "line": "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
}
EMERGENCY = {"pattern": "emergency mode", "line": "You are in emergency mode. After logging in, type ..."}


def test_a_panic_on_the_console_is_unbootable_and_quoted() -> None:
    story = Story()
    judged = story.boots(story.silent(console_matches=[PANIC], instance_status="impaired")).judge()
    assert judged.verdict is Verdict.UNBOOTABLE
    assert "VFS: Unable to mount root fs on unknown-block(0,0)" in judged.reason


def test_silence_alone_is_unreachable() -> None:
    story = Story()
    judged = story.boots(story.silent()).judge()
    assert judged.verdict is Verdict.UNREACHABLE
    assert "could not be asked within 15 min" in judged.reason


def test_what_refused_the_login_is_told() -> None:
    story = Story()
    judged = story.boots(story.silent(error="the key was refused")).judge()
    assert judged.verdict is Verdict.UNREACHABLE
    assert "the key was refused" in judged.reason


def test_an_impaired_instance_without_a_word_on_its_console_is_unreachable() -> None:
    story = Story()
    judged = story.boots(story.silent(instance_status="impaired", system_status="ok")).judge()
    assert judged.verdict is Verdict.UNREACHABLE
    assert "(system check ok, instance check impaired)" in judged.reason


@pytest.mark.parametrize(
    ("status", "verdict"), [("impaired", Verdict.UNBOOTABLE), ("ok", Verdict.UNREACHABLE)]
)
def test_an_unfamiliar_pattern_counts_only_beside_an_impaired_instance(status: str, verdict: Verdict) -> None:
    story = Story()
    odd = {"pattern": "init: cannot start", "line": "init: cannot start"}
    assert story.boots(story.silent(console_matches=[odd], instance_status=status)).judge().verdict is verdict


@pytest.mark.parametrize("pattern", [known for known, kind in PATTERNS.items() if kind is Kind.HARMLESS])
def test_what_systems_say_that_come_up_is_no_evidence(pattern: str) -> None:
    story = Story()
    match = {"pattern": pattern, "line": f"... {pattern} ..."}
    judged = story.boots(story.silent(console_matches=[match], instance_status="impaired")).judge()
    assert judged.verdict is Verdict.UNREACHABLE


def test_a_scratch_instance_that_never_ran_is_unreachable() -> None:
    story = Story()
    judged = story.boots(story.silent(running_at=None, error="InsufficientInstanceCapacity")).judge()
    assert judged.verdict is Verdict.UNREACHABLE
    assert "never ran: InsufficientInstanceCapacity" in judged.reason


def test_a_panic_that_the_system_survived_is_not_held_against_it() -> None:
    story = Story()
    assert story.boots({"console_matches": [PANIC]}).judge().verdict is Verdict.RECOVERED


@pytest.mark.parametrize("volume", ["root", "set"])
def test_a_system_in_emergency_mode_is_unbootable_though_it_answers(volume: str) -> None:
    assert Story().change("boot.system", state="maintenance").judge(volume).verdict is Verdict.UNBOOTABLE


@pytest.mark.parametrize("state", ["starting", "initializing", "stopping", "offline", "unknown", ""])
def test_a_system_that_had_not_come_up_is_inconclusive(state: str) -> None:
    assert Story().change("boot.system", state=state).judge().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("case", "attempts"),
    [
        ("panic", [{"answered_at": None, "console_matches": [PANIC]}]),
        ("silent", [{"answered_at": None}]),
        (
            "twice",
            [
                {"answered_at": None, "console_matches": [EMERGENCY]},
                {"answered_at": None, "with": "blank volumes"},
            ],
        ),
    ],
)
def test_a_data_volume_is_never_unbootable(case: str, attempts: list[dict[str, Any]]) -> None:
    judged = Story().boots(*attempts).judge("data")
    assert judged.verdict is Verdict.RECOVERED, case
    assert judged.reason == "xfs whole after log replay; all 250 acknowledged records intact"


def test_a_data_volume_is_judged_by_its_own_mount_where_copy_b_came_up() -> None:
    story = Story().change("boot.mounts", mounts=Story().data("boot.mounts")["mounts"][:1])
    judged = story.judge("data")
    assert judged.verdict is Verdict.INCONSISTENT
    assert "lin/data is not mounted at /mnt/data in the copy" in judged.reason
    assert story.judge("root").verdict is Verdict.RECOVERED


def test_a_damaged_data_volume_leaves_the_root_alone() -> None:
    story = Story().change("filesystem.check", "data", exit=1, clean=False, problems=["bad magic # 0x0"])
    assert story.judge("data").verdict is Verdict.INCONSISTENT
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert story.judge("set").verdict is Verdict.INCONSISTENT


def test_a_damaged_root_leaves_the_data_volume_alone() -> None:
    story = Story().change("filesystem.check", "root", exit=4, clean=False, problems=["Inode 12"])
    story.boots(story.silent(console_matches=[PANIC]))
    assert story.judge("root").verdict is Verdict.UNBOOTABLE
    assert story.judge("data").verdict is Verdict.RECOVERED


def test_a_server_that_comes_up_with_blank_volumes_only_blames_its_data_volume() -> None:
    story = Story()
    story.boots(story.silent(console_matches=[EMERGENCY]), {"with": "blank volumes"})
    assert story.judge("root").verdict is Verdict.RECOVERED
    data = story.judge("data")
    assert data.verdict is Verdict.INCONSISTENT
    assert "comes up with a blank volume in place of lin/data, but not with its own" in data.reason
    assert "You are in emergency mode" in data.reason
    assert story.judge("set").verdict is Verdict.INCONSISTENT


def test_what_is_mounted_from_blank_volumes_says_nothing_of_the_data_but_all_of_the_root() -> None:
    story = Story()
    story.boots(story.silent(), {"with": "blank volumes"})
    story.data("boot.mounts")["mounts"].pop()
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert not any("not mounted" in one.sentence for one in story.judge("data").findings)
    story.data("boot.mounts")["mounts"][0]["options"] = "ro"
    assert story.judge("root").verdict is Verdict.INCONSISTENT


def test_of_several_data_volumes_none_is_blamed_without_proof() -> None:
    story = Story(volumes=("root", "data", "logs"))
    story.boots(story.silent(console_matches=[EMERGENCY]), {"with": "blank volumes"})
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE
    assert story.judge("set").verdict is Verdict.INCONSISTENT


def test_an_emergency_with_the_data_volumes_does_not_blame_a_root_that_was_silent_without_them() -> None:
    story = Story()
    story.boots(story.silent(console_matches=[EMERGENCY]), story.silent(**{"with": "blank volumes"}))
    assert story.judge().verdict is Verdict.UNREACHABLE


def test_a_panic_with_the_data_volumes_blames_the_root() -> None:
    story = Story()
    story.boots(story.silent(console_matches=[PANIC]), story.silent(**{"with": "blank volumes"}))
    judged = story.judge()
    assert judged.verdict is Verdict.UNBOOTABLE
    assert "(booted with data volumes)" in judged.reason


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"asset_tag": "i-0c0ffee0000000001"}, "it is i-0c0ffee0000000001, not the scratch instance"),
        ({"asset_tag": ""}, "neither its board nor the metadata service names an instance"),
        ({"root_serial": "vol0aaaaaaaaaaaaaaaa"}, "its root is vol0aaaaaaaaaaaaaaaa, not the restored"),
        ({"root_serial": ""}, "its root is a disk without serial"),
        ({"root_volume": ""}, "not the restored (unknown)"),
        ({"boot_id": "5b5c0f0e-0000-4000-8000-000000000001"}, "its boot is the source's own"),
        ({"boot_id": ""}, "its boot id is not known"),
        ({"host_key_origin": "none"}, "its host key is neither the source's nor the one on its console"),
    ],
)
def test_the_wrong_machine_proves_nothing(wrong: dict[str, str], says: str) -> None:
    story = Story().change("boot.identity", **wrong)
    story.change("boot.system", state="maintenance")  # what a stranger says is not heard
    for volume in ("root", "data"):
        judged = story.judge(volume)
        assert judged.verdict is Verdict.INCONCLUSIVE
        assert "not the machine that was restored" in judged.reason
        assert says in judged.reason


def test_the_scratch_instance_is_the_one_that_was_started_and_not_what_the_guest_says() -> None:
    story = Story().change("boot.identity", asset_tag="i-0c0ffee0000000001", instance="i-0c0ffee0000000001")
    assert story.judge().verdict is Verdict.INCONCLUSIVE


def test_an_identity_that_was_not_shown_is_told_as_that() -> None:
    says = "a guest answered, but it was not shown to be the machine that was restored"
    assert Story().drop("boot.identity").judge().reason == says
    assert Story().change("boot.identity", error="sudo refused").judge().reason == f"{says}: sudo refused"


def test_what_copy_a_shows_stands_though_copy_b_was_another_machine() -> None:
    story = Story().change("boot.identity", asset_tag="i-0c0ffee0000000001")
    story.change("canary.found", "root", records=[[0, 100]])
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_the_metadata_service_names_the_instance_where_the_board_does_not() -> None:
    story = Story().change("boot.identity", asset_tag="Not Specified", imds_instance="i-0b000000000000001")
    assert story.judge().verdict is Verdict.RECOVERED


def test_a_unit_that_failed_on_the_source_too_is_a_note() -> None:
    story = Story().change("boot.system", state="degraded", failed_units=["old.service"])
    story.change("baseline.system", state="degraded", failed_units=["old.service"])
    judged = story.judge()
    assert judged.verdict is Verdict.RECOVERED
    assert "failed in the copy as on the source: old.service" in [one.sentence for one in judged.findings]


def test_a_service_that_fails_only_in_the_copy_is_neither_fine_nor_damage() -> None:
    judged = Story().change("boot.system", state="degraded", failed_units=["shop.service"]).judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "shop.service" in judged.reason


@pytest.mark.parametrize("unit", ["mnt-data.mount", "systemd-fsck@dev-nvme1n1.service", "dev-sdb.swap"])
def test_storage_that_fails_only_in_the_copy_is_damage(unit: str) -> None:
    judged = Story().change("boot.system", state="degraded", failed_units=[unit]).judge()
    assert judged.verdict is Verdict.INCONSISTENT


def test_degraded_without_a_failed_unit_is_inconclusive() -> None:
    assert Story().change("boot.system", state="degraded").judge().verdict is Verdict.INCONCLUSIVE


def test_mounts_that_could_not_be_listed_are_inconclusive() -> None:
    judged = Story().change("boot.mounts", error="no /proc").judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == "what copy B has mounted is not known: no /proc"


def test_a_mount_that_came_up_read_only_is_damage() -> None:
    story = Story()
    story.data("boot.mounts")["mounts"][0]["options"] = "ro,relatime"
    judged = story.judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "mounted read-only at / in the copy, writable on the source" in judged.reason


def test_a_mount_that_is_read_only_on_the_source_too_is_fine() -> None:
    story = Story()
    for probe in ("boot.mounts", "baseline.system"):
        story.data(probe)["mounts"][1]["options"] = "ro"
    assert story.judge("data").verdict is Verdict.RECOVERED


def test_a_data_volume_without_a_uuid_takes_no_mount_from_the_root() -> None:
    story = Story().change("filesystem.before", "data", uuid="")
    for probe in ("boot.mounts", "baseline.system"):
        story.data(probe)["mounts"][0]["uuid"] = ""
    story.data("boot.mounts")["mounts"][0]["options"] = "ro"
    assert story.judge("root").verdict is Verdict.INCONSISTENT


def test_another_filesystem_at_the_volumes_place_is_damage() -> None:
    story = Story()
    story.data("boot.mounts")["mounts"][1]["uuid"] = "99999999-0000-4000-8000-000000000000"
    assert story.judge("data").verdict is Verdict.INCONSISTENT


def test_a_further_mount_of_the_root_volume_is_the_roots() -> None:
    story = Story()
    boot = {
        "target": "/var",
        "source": "/dev/nvme0n1p3",
        "fstype": "ext4",
        "options": "rw",
        "uuid": "77777777",
    }
    story.data("baseline.system")["mounts"].append(boot)
    assert story.judge("root").verdict is Verdict.INCONSISTENT
    assert story.judge("data").verdict is Verdict.RECOVERED


def test_without_a_baseline_a_capture_of_the_drills_own_is_inconclusive_for_data() -> None:
    story = Story().drop("baseline.system")
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert Story(Capture.EXISTING).drop("baseline.system").judge("data").verdict is Verdict.CONSISTENT


@pytest.mark.parametrize(
    ("line", "hit", "verdict"),
    [
        # Golden: lines of Linux 6.1 over images damaged on purpose.
        (
            "EXT4-fs error (device nvme0n1p2): ext4_lookup:1851: inode #2: bad extra_isize",
            "root",
            Verdict.INCONSISTENT,
        ),
        ("XFS (nvme1n1): Metadata corruption detected at xfs_agf_verify", "data", Verdict.INCONSISTENT),
        ("XFS (nvme1n1): Corruption detected. Unmount and run xfs_repair", "data", Verdict.INCONSISTENT),
        (
            "BTRFS error (device nvme1n1): parent transid verify failed on 30441472",
            "data",
            Verdict.INCONSISTENT,
        ),
        ("XFS (nvme1n1): log mount/recovery failed: error -117", "data", Verdict.INCONSISTENT),
        ("EXT4-fs (nvme0n1p2): Remounting filesystem read-only", "root", Verdict.INCONSISTENT),
        (
            "EXT4-fs error (device nvme0n1p2): unable to read itable block: I/O error",
            "root",
            Verdict.INCONSISTENT,
        ),
        ("Buffer I/O error on dev nvme1n1, logical block 0, async page read", "data", Verdict.INCONCLUSIVE),
        ("I/O error, dev nvme0n1, sector 2048 op 0x0:(READ)", "root", Verdict.INCONCLUSIVE),
        ("general protection fault: 0000 [#1] PREEMPT SMP", "root", Verdict.INCONCLUSIVE),
        ("INFO: task jbd2:155 blocked for more than 120 seconds.", "root", Verdict.RECOVERED),
    ],
)
def test_the_copys_kernel_is_heard_of_the_volume_that_it_names(line: str, hit: str, verdict: Verdict) -> None:
    story = Story().change("boot.kernel", messages=[{"pattern": "x", "line": line}])
    assert story.judge(hit).verdict is verdict
    other = "data" if hit == "root" else "root"
    assert story.judge(other).verdict is Verdict.RECOVERED


def test_a_console_line_is_quoted_on_one_line_and_not_without_end() -> None:
    story = Story()
    line = "\x1b[31mKernel panic - not syncing:\n\r" + "A" * 100_000
    judged = story.boots(story.silent(console_matches=[{"pattern": "p", "line": line}])).judge()
    assert judged.verdict is Verdict.UNBOOTABLE
    assert "\n" not in judged.reason
    assert "\x1b" not in judged.reason
    assert len(judged.reason) < 400


@pytest.mark.parametrize(
    ("code", "verdict"),
    [(False, Verdict.UNBOOTABLE), (True, Verdict.UNREACHABLE), (None, Verdict.UNREACHABLE)],
)
def test_silence_over_a_boot_sector_without_code_is_unbootable(code: bool | None, verdict: Verdict) -> None:
    story = Story()
    story.change("filesystem.before", "root", boot_code=code)
    assert story.boots(story.silent()).judge().verdict is verdict


@pytest.mark.parametrize(
    "line",
    [
        # Golden: what QEMU's serial console showed of lab guests that were damaged so (tests/damage/boots.py).
        "Boot error",
        "Boot failed: not a bootable disk",
        "No bootable device.",
        "Loading vmlinuz... failed: No such file or directory",
        "[    2.238695] Run /bin/sh as init process",
        # Golden: GRUB 2.06 and initramfs-tools, from their sources.
        "error: you need to load the kernel first.",
        "Target filesystem doesn't have requested /sbin/init.",
    ],
)
def test_what_a_console_says_of_a_loader_a_kernel_or_an_init_that_is_gone_is_known(line: str) -> None:
    known = [kind for pattern, kind in PATTERNS.items() if pattern in line.lower()]
    assert known
    assert set(known) == {Kind.ROOT}


def test_a_data_copy_that_has_lost_its_superblock_does_not_condemn_the_root() -> None:
    story = Story().change("filesystem.before", "data", filesystem=None, uuid="")
    del story.data("boot.mounts")["mounts"][1]
    assert story.judge("root").verdict is Verdict.RECOVERED
    assert story.judge("data").verdict is Verdict.INCONSISTENT


def test_a_filesystem_of_the_root_volume_is_the_roots_whatever_it_is_mounted_from() -> None:
    var = {
        "target": "/var",
        "source": "/dev/mapper/vg-var",
        "fstype": "ext4",
        "options": "rw",
        "uuid": "5555",
    }
    story = Story()
    story.data("baseline.system")["mounts"].append(var)
    assert story.judge("root").verdict is Verdict.RECOVERED
    story.change("filesystem.before", "root", filesystems=[{"uuid": "5555"}])
    judged = story.judge("root")
    assert judged.verdict is Verdict.INCONSISTENT
    assert "is not mounted at /var" in judged.reason
    assert story.judge("data").verdict is Verdict.RECOVERED


@pytest.mark.parametrize(
    ("capture", "verdict"),
    [(Capture.STOPPED, Verdict.INCONSISTENT), (Capture.EXISTING, Verdict.INCONCLUSIVE)],
)
def test_what_was_mounted_since_an_existing_recovery_point_is_no_damage_of_it(
    capture: Capture, verdict: Verdict
) -> None:
    story = Story(capture)
    del story.data("boot.mounts")["mounts"][1]
    assert story.judge("data").verdict is verdict


@pytest.mark.parametrize(
    ("line", "early"),
    [
        ("Kernel panic - not syncing: VFS: Unable to mount root fs", {Kind.ROOT}),
        ("You are in emergency mode. After logging in, type ...", {Kind.SYSTEM}),
        ("Boot failed: not a bootable disk", frozenset()),
        ("BusyBox v1.35.0 (Debian 1:1.35.0-4+b3) built-in shell (ash)", frozenset()),
        ("dracut-initqueue[312]: Warning: dracut-initqueue timeout - starting timeout scripts", frozenset()),
        ("systemd[1]: Starting dracut-initqueue.service - dracut initqueue hook...", None),
    ],
)
def test_a_loose_pattern_is_evidence_of_a_silent_server_and_ends_no_wait(
    line: str, early: frozenset[Kind] | None
) -> None:
    found = [pattern for pattern in PATTERNS if pattern in line.lower()]
    assert telling(found) == (early or frozenset())
    story = Story()
    shown = [{"pattern": pattern, "line": line} for pattern in found]
    judged = story.boots(story.silent(console_matches=shown)).judge()
    assert judged.verdict is (Verdict.UNREACHABLE if early is None else Verdict.UNBOOTABLE)
