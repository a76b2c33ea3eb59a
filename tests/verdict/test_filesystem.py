"""A checker's word counts for what it is worth, and never for more."""

import pytest

from drtest.verdict.checkers import Word, checker_word, questions, replay_word, tool_name
from drtest.words import Capture, Verdict
from tests.verdict.story import E2FSCK_WHOLE, Story

# Golden: e2fsck 1.47.0 -fn over an ext4 with a dirty journal (facts/fs_experiment.sh): it exits 0.
E2FSCK_UNREPLAYED = """e2fsck 1.47.0 (5-Feb-2023)
Warning: skipping journal recovery because doing a read-only filesystem check.
Pass 1: Checking inodes, blocks, and sizes
Pass 5: Checking group summary information
Free blocks count wrong (93504, counted=93453).
Fix? no

/dev/nvme1n1p2: 511/102400 files (0.0% non-contiguous), 8896/102400 blocks
"""
# Golden: the same after `e2fsck -E journal_only -p`: the journal is replayed, the superblock's totals are old.
E2FSCK_OLD_TOTALS = """e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
Pass 5: Checking group summary information
Free blocks count wrong (93504, counted=93453).
Fix? no

Free inodes count wrong (102389, counted=101889).
Fix? no

/dev/nvme1n1p2: 511/102400 files (0.0% non-contiguous), 8896/102400 blocks
"""
# Golden: e2fsck 1.47.0 -fn over an ext4 one of whose inodes was overwritten with noise by debugfs.
E2FSCK_DAMAGED = """e2fsck 1.47.0 (5-Feb-2023)
Pass 1: Checking inodes, blocks, and sizes
Inode 12 has an invalid extent node (blk 8737, lblk 0)
Clear? no

Pass 2: Checking directory structure
Entry 'f12' in / (2) has deleted/unused inode 12.  Clear? no

/dev/nvme1n1p2: ********** WARNING: Filesystem still has errors **********
"""
# Golden: xfs_repair 6.1.0 -n over a healthy XFS with a dirty log: it exits 1.
XFS_UNREPLAYED = """Phase 1 - find and verify superblock...
Phase 2 - using internal log
        - zero log...
ALERT: The filesystem has valuable metadata changes in a log which is being
ignored because the -n option was used.  Expect spurious inconsistencies
which may be resolved by first mounting the filesystem to replay the log.
"""


def test_a_log_that_was_replayed_makes_recovered_and_one_that_was_clean_consistent() -> None:
    assert Story(Capture.RUNNING).judge().verdict is Verdict.RECOVERED
    clean = Story(Capture.RUNNING).change("filesystem.before", "root", dirty_log=False)
    clean.change("filesystem.replay", "root", replayed=False, method="none")
    clean.change("boot.kernel", replays=[])
    assert clean.judge().verdict is Verdict.CONSISTENT


def test_a_dirty_log_that_nothing_replayed_says_nothing() -> None:
    story = Story().change("filesystem.replay", "root", method="none", replayed=False)
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.reason == "the log of lin/root was dirty, and nothing replayed it"


def test_a_replay_that_replayed_nothing_says_nothing() -> None:
    assert Story().change("filesystem.replay", "root", replayed=False).judge().verdict is Verdict.INCONCLUSIVE


def test_a_log_that_cannot_be_replayed_is_damage() -> None:
    # Golden: mount of an XFS whose log was overwritten: rc 32.
    story = Story().change(
        "filesystem.replay",
        "data",
        exit=32,
        replayed=False,
        output="mount(2) system call failed: Structure needs cleaning.",
    )
    judged = story.judge("data")
    assert judged.verdict is Verdict.INCONSISTENT
    assert "its log can't be replayed" in judged.reason
    assert "Structure needs cleaning" in judged.reason


def test_a_replay_that_failed_for_reasons_of_the_helper_is_inconclusive() -> None:
    story = Story().change("filesystem.replay", "data", exit=32, replayed=False, error="mount was not found")
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("code", [None, 127, -9])
def test_a_replay_that_never_ran_or_was_killed_is_inconclusive(code: int | None) -> None:
    story = Story().change("filesystem.replay", "data", exit=code, replayed=False)
    judged = story.judge("data")
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert f"ended with {code}, which says nothing" in judged.reason


def test_e2fsck_that_corrected_what_it_may_correct_has_replayed() -> None:
    # e2fsck.8: -p ends with 1 where it corrected something.
    assert Story().change("filesystem.replay", "root", exit=1).judge().verdict is Verdict.RECOVERED


def test_e2fsck_says_0_over_a_dirty_journal_and_that_is_no_pass() -> None:
    judged = Story().change("filesystem.check", "root", output=E2FSCK_UNREPLAYED, exit=0, clean=True).judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "looked past a log" in judged.reason


def test_xfs_repair_says_1_over_a_healthy_volume_with_a_dirty_log_and_that_is_no_damage() -> None:
    story = Story().change("filesystem.check", "data", output=XFS_UNREPLAYED, exit=1, clean=False)
    story.change("filesystem.check", "data", problems=["agf_freeblks 93504, counted 93453 in ag 0"])
    assert story.judge("data").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("code", [0, 4])
def test_old_totals_after_a_replay_are_no_damage(code: int) -> None:
    story = Story().change("filesystem.check", "root", output=E2FSCK_OLD_TOTALS, exit=code)
    assert story.judge().verdict is Verdict.RECOVERED


def test_wrong_totals_without_a_replay_are_damage() -> None:
    story = Story(Capture.STOPPED).change("filesystem.check", "root", output=E2FSCK_OLD_TOTALS)
    judged = story.judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "Free blocks count wrong (93504, counted=93453)." in judged.reason


def test_what_e2fsck_would_have_mended_is_damage_though_it_says_0_and_the_probe_says_clean() -> None:
    judged = Story().change("filesystem.check", "root", output=E2FSCK_DAMAGED, exit=0, clean=True).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "invalid extent node" in judged.reason


@pytest.mark.parametrize(
    ("tool", "code", "word"),
    [
        ("e2fsck -fn", 0, Word.WHOLE),
        ("e2fsck -fn", 4, Word.DAMAGED),
        ("e2fsck -fn", 12, Word.DAMAGED),  # EXP: the root inode is gone
        ("e2fsck -fn", 8, Word.UNKNOWN),  # EXP: no filesystem at all
        ("e2fsck -fn", 16, Word.UNKNOWN),
        ("e2fsck -fn", 32, Word.UNKNOWN),
        ("e2fsck -fn", 128, Word.UNKNOWN),
        ("xfs_repair -n", 0, Word.WHOLE),
        ("xfs_repair -n", 1, Word.DAMAGED),
        ("xfs_repair -n", 2, Word.UNKNOWN),
        ("btrfs check --readonly", 0, Word.WHOLE),
        ("btrfs check --readonly", 1, Word.DAMAGED),
        ("btrfs check --readonly", 127, Word.UNKNOWN),
        ("btrfs check --readonly", -9, Word.UNKNOWN),
        ("fsck.fat -n", 1, Word.WHOLE),  # a dirty bit alone ends with 1 too: its output decides
        ("chkdsk X:", 0, Word.WHOLE),
        ("chkdsk X:", 2, Word.WHOLE),
        ("chkdsk X:", 1, Word.DAMAGED),
        ("chkdsk X:", 3, Word.UNKNOWN),
        ("zpool scrub", 0, Word.WHOLE),
        ("zpool scrub", 1, Word.UNKNOWN),
    ],
)
def test_each_checkers_exit_code_is_read_by_its_own_table(tool: str, code: int, word: Word) -> None:
    assert checker_word(tool, code=code, clean=True, problems=(), output="")[0] is word


def test_a_question_is_about_the_line_before_it() -> None:
    output = (
        "Superblock last mount time is in the future.\n\n\tFix? no\n"
        "Free blocks count wrong (1, counted=2).\nFix? no\n"
    )
    damage, harmless = questions(output, replayed=False)
    assert (damage, harmless) == (
        ("Free blocks count wrong (1, counted=2).",),
        ("Superblock last mount time is in the future.",),
    )


@pytest.mark.parametrize(("clean", "word"), [(True, Word.WHOLE), (None, Word.UNKNOWN), (False, Word.DAMAGED)])
def test_wholeness_needs_the_probes_word_too(clean: bool | None, word: Word) -> None:
    assert checker_word("e2fsck -fn", code=0, clean=clean, problems=(), output=E2FSCK_WHOLE)[0] is word


def test_a_checker_that_never_ended_says_nothing() -> None:
    assert checker_word("e2fsck", code=None, clean=None, problems=(), output="")[0] is Word.UNKNOWN


def test_tools_are_known_by_their_name_alone() -> None:
    assert tool_name("/usr/sbin/e2fsck -fn /dev/x") == "e2fsck"
    assert tool_name("CHKDSK.EXE X:") == "chkdsk"
    assert tool_name("  ") == ""


@pytest.mark.parametrize(
    ("method", "code", "word"),
    [
        ("mount -o nouuid; umount", 0, Word.WHOLE),
        ("mount -o nouuid; umount", 32, Word.DAMAGED),
        ("mount", None, Word.UNKNOWN),
        ("mount", 127, Word.UNKNOWN),
        ("e2fsck -E journal_only -p", 1, Word.WHOLE),
        ("e2fsck -E journal_only -p", 4, Word.DAMAGED),
        ("e2fsck -E journal_only -p", 8, Word.DAMAGED),
    ],
)
def test_a_replay_is_read_by_how_it_was_done(method: str, code: int | None, word: Word) -> None:
    assert replay_word(method, code) is word


def test_features_that_the_helper_does_not_know_are_not_damage() -> None:
    story = Story().change("filesystem.before", "root", unknown_features=["FEATURE_I31"])
    story.change("filesystem.check", "root", exit=4, clean=False, problems=["unsupported feature"])
    judged = story.judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "FEATURE_I31" in judged.reason


def test_a_filesystems_own_error_flag_is_damage() -> None:
    assert (
        Story().change("filesystem.before", "root", error_flag=True).judge().verdict is Verdict.INCONSISTENT
    )


def test_a_volume_that_could_not_be_looked_at_is_inconclusive() -> None:
    judged = Story().change("filesystem.before", "root", error="LVM is not examined").judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "LVM is not examined" in judged.reason


def test_damage_that_was_seen_on_part_of_a_volume_is_damage() -> None:
    story = Story().change("filesystem.before", "root", error="partition 3 is encrypted")
    story.change("filesystem.check", "root", exit=4, clean=False, problems=["Inode 12"])
    assert story.judge().verdict is Verdict.INCONSISTENT


def test_of_several_filesystems_on_a_volume_the_worst_counts() -> None:
    good = {"tool": "e2fsck -fn", "exit": 0, "clean": True, "problems": []}
    fat = {"tool": "fsck.fat -n", "exit": 1, "clean": True, "problems": []}
    story = Story().change(
        "filesystem.check", "root", tool="e2fsck -fn + fsck.fat -n", exit=1, filesystems=[good, fat]
    )
    assert story.judge().verdict is Verdict.RECOVERED
    fat["problems"], fat["clean"] = ["FATs differ"], False
    judged = story.change("filesystem.check", "root", filesystems=[good, fat], clean=False).judge()
    assert judged.verdict is Verdict.INCONSISTENT
    assert "FATs differ" in judged.reason


@pytest.mark.parametrize(
    ("fstype", "verdict"), [("ext4", Verdict.INCONSISTENT), ("zfs", Verdict.INCONCLUSIVE)]
)
def test_a_root_without_its_filesystem_is_damage_where_the_source_had_a_known_one(
    fstype: str, verdict: Verdict
) -> None:
    story = Story().change("filesystem.before", "root", filesystem=None, uuid="")
    story.drop("canary.acknowledged")
    story.data("baseline.system")["mounts"][0]["fstype"] = fstype
    judged = story.judge(checks=("filesystem",), loaded=False)
    assert judged.verdict is verdict


def test_a_volume_that_had_taken_records_and_has_no_filesystem_is_damage() -> None:
    story = Story().change("filesystem.before", "data", filesystem=None)
    assert "250 records had been acknowledged" in story.judge("data").reason
    assert story.judge("data").verdict is Verdict.INCONSISTENT


def test_the_sources_own_volume_is_not_the_one_that_was_restored() -> None:
    story = Story()
    own = story.data("capture")["volumes"]["root"]
    judged = story.change("filesystem.before", "root", serial=own.replace("-", "")).judge()
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert "not the volume that was restored" in judged.reason


def test_the_helpers_kernel_is_heard_of_the_device_that_it_names() -> None:
    # Golden: Linux 6.1 mounting an ext4 whose root directory was zeroed.
    line = "EXT4-fs error (device nvme1n1p2): ext4_lookup:1851: inode #2: comm ls: iget: checksum invalid"
    story = Story().change("helper.kernel", messages=[line])
    assert story.judge("root").verdict is Verdict.INCONSISTENT
    assert story.judge("data").verdict is Verdict.RECOVERED


def test_a_disk_that_gives_io_errors_is_inconclusive() -> None:
    line = "Buffer I/O error on dev nvme2n1, logical block 12, async page read"
    assert Story().change("helper.kernel", messages=[line]).judge("data").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("flags", "verdict"), [("0x80700", Verdict.RECOVERED), ("0x700", Verdict.INCONCLUSIVE)]
)
def test_what_was_only_read_ahead_may_be_dropped(flags: str, verdict: Verdict) -> None:
    # Golden: Linux 6.1, when a disk of QEMU 7.2 had not answered for a minute on a busy host, and was reset.
    line = f"I/O error, dev nvme2n1, sector 650096 op 0x0:(READ) flags {flags} phys_seg 1 prio class 2"
    judged = Story().change("helper.kernel", messages=[line]).judge("data")
    assert judged.verdict is verdict
    assert any("650096" in one.sentence for one in judged.findings)


def test_a_helper_whose_kernel_crashed_proves_nothing() -> None:
    assert Story().change("helper.kernel", oops=True, tainted=128).judge().verdict is Verdict.INCONCLUSIVE
