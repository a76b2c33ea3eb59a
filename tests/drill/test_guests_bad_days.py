"""Guests on their bad days: each ends with the right verdict, or none and a sentence that says what to do."""

import pytest

from drtest.guest.transport import GuestDeadlineError, UnreachableError
from tests.drill.kit.days import (
    Day,
    answers,
    both,
    crowd,
    in_any_case,
    judge,
    manners,
    raises,
    says,
)
from tests.drill.kit.world import SCENARIO, Ran, World

LINUX = SCENARIO["servers"][0]
LOST = UnreachableError("127.0.0.1:2222: the connection was lost in the middle of an answer")
HANGS = GuestDeadlineError("127.0.0.1:2222: the command did not end")
PANIC = "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
EMERGENCY = "You are in emergency mode. After logging in, type journalctl -xb\n"
YEAR = 365 * 86400


SILENT = {
    "never-boots": Day(
        arrange=in_any_case(answers=False),
        root="UNREACHABLE",
        data="RECOVERED",
        says="could not be asked within 3.0 s, and nothing on its console says that it failed to boot",
    ),
    "kernel-panic": Day(
        arrange=in_any_case(answers=False, console=PANIC),
        root="UNBOOTABLE",
        data="RECOVERED",
        says="does not boot: its console says .*Kernel panic - not syncing",
    ),
    "emergency-for-its-data-volume": Day(
        arrange=manners("copy", answers=False, console=EMERGENCY),
        root="RECOVERED",
        data="INCONSISTENT",
        data_says="comes up with a blank volume in place of .*/data, but not with its own",
    ),
    "emergency-whatever-is-attached": Day(
        arrange=in_any_case(answers=False, console=EMERGENCY),
        root="UNBOOTABLE",
        data="RECOVERED",
        says="emergency mode",
    ),
    "copy-with-another-host-key": Day(
        arrange=in_any_case(host_key="ssh-ed25519 AAAAanother"),
        root="UNREACHABLE",
        data="RECOVERED",
        says="another machine answers",
    ),
    "source-with-another-host-key": Day(
        arrange=manners("source", host_key="ssh-ed25519 AAAAanother"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="another machine answers",
    ),
    "source-never-boots": Day(
        arrange=manners("source", answers=False),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="did not answer by SSH",
    ),
    "helper-never-boots": Day(
        arrange=manners("helper", answers=False),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="did not answer by SSH",
    ),
}

ANSWERING = {
    "emergency-but-answers": Day(
        arrange=says("copy", "boot.system", state="maintenance"),
        root="UNBOOTABLE",
        data="RECOVERED",
        says="emergency mode",
    ),
    "another-asset-tag": Day(
        arrange=says("copy", "boot.identity", asset_tag="i-0123456789abcdef0"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="not the machine that was restored: it is i-0123456789abcdef0, not the scratch instance",
    ),
    "another-root-serial": Day(
        arrange=says("copy", "boot.identity", root_serial="vol0123", root_serials=["vol0123"]),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="not the machine that was restored: its root is vol0123",
    ),
    "clock-a-year-ahead": Day(
        arrange=both(
            says("source", "baseline.system", clock=2.0e9), says("copy", "boot.identity", clock=2.0e9 + YEAR)
        ),
        root="RECOVERED",
        data="RECOVERED",
    ),
    "lost-in-baseline": Day(
        arrange=raises("source", "baseline", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="the connection was lost",
    ),
    "lost-in-load": Day(
        arrange=raises("source", "load", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="the connection was lost",
    ),
    "lost-in-offline": Day(
        arrange=raises("helper", "offline", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="the connection was lost",
    ),
    "lost-in-booted": Day(
        arrange=raises("copy", "booted", LOST),
        root="UNREACHABLE",
        data="UNREACHABLE",
        says="the connection was lost",
    ),
    "helper-hangs": Day(
        arrange=raises("helper", "offline", HANGS),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="the command did not end",
    ),
    "garbage": Day(
        arrange=answers("copy", "booted", b"Welcome! Your password will expire in 3 days.\n"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="gave no answer .*Welcome! Your password",
    ),
    "binary": Day(
        arrange=answers("helper", "offline", bytes(range(256)) * 40),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="no answer",
    ),
    "fifty-megabytes": Day(
        arrange=answers("helper", "offline", b"x" * 50_000_000),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="sent more than 8388608 bytes",
    ),
    "half-an-answer-of-nothing-known": Day(
        arrange=says("copy", "boot.system", state=["running"], failed_units=7),
        root="INCONCLUSIVE",
        data="RECOVERED",
        says="the boot check crashed: .*state",
    ),
    "no-filesystem-any-more": Day(
        arrange=says("helper", "filesystem.before", filesystem=None),
        root="INCONSISTENT",
        data="INCONSISTENT",
        says="no filesystem is recognised",
        data_says=r"no filesystem is recognised .* \d+ records had been acknowledged",
    ),
    "unknown-filesystem": Day(
        arrange=says("helper", "filesystem.before", filesystem="zfs_member", error="zfs is not known here"),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="could not be looked at: zfs is not known here",
    ),
    "newer-filesystem": Day(
        arrange=says("helper", "filesystem.before", unknown_features=["FEATURE_I31"]),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="newer than the tools is not damage",
    ),
    "helper-oops": Day(
        arrange=says("helper", "helper.kernel", tainted=128, oops=True),
        root="INCONCLUSIVE",
        data="INCONCLUSIVE",
        says="the helper's kernel crashed during the examination",
    ),
}


@pytest.fixture(scope="module")
def silent(shared: World) -> Ran:
    ran = crowd(shared, SILENT, server=LINUX, deadlines={"boot": "3s"})
    assert shared.left() == []
    return ran


@pytest.fixture(scope="module")
def answering(shared: World) -> Ran:
    ran = crowd(shared, ANSWERING, server=LINUX, deadlines=dict.fromkeys(SCENARIO["deadlines"], "60s"))
    assert shared.left() == []
    return ran


@pytest.mark.parametrize("name", SILENT)
def test_a_guest_that_does_not_answer(name: str, silent: Ran) -> None:
    judge(silent, name, SILENT[name])


@pytest.mark.parametrize("name", ANSWERING)
def test_a_guest_that_answers_otherwise(name: str, answering: Ran) -> None:
    judge(answering, name, ANSWERING[name])
