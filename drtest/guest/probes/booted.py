"""Copy B after its boot: is it the right machine, did it come up, is all mounted, what did its kernel say."""

from typing import Any, Dict, List

from drtest.guest.probes import kernel, prelude, system


def main(arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Four observations, the identity first: nothing else counts if it is the wrong machine."""
    settle = float(arguments.get("settle", 120))
    return [
        prelude.guarded(
            "boot.identity",
            "cat /sys/class/dmi/id/board_asset_tag /proc/sys/kernel/random/boot_id; findmnt -no SOURCE /; lsblk",
            system.identity,
        ),
        prelude.guarded(
            "boot.system",
            "systemctl is-system-running; systemctl list-units --failed",
            lambda: system.state(settle),
        ),
        prelude.guarded(
            "boot.mounts",
            "findmnt --real -o TARGET,SOURCE,FSTYPE,OPTIONS,UUID",
            lambda: {"mounts": system.mounts()},
        ),
        prelude.guarded("boot.kernel", "journalctl -k -b", _kernel),
    ]


def _kernel() -> Dict[str, Any]:
    said = kernel.of_this_boot()
    checkers = kernel.of_checkers()
    return {
        "messages": kernel.matches(said + checkers)[: kernel.LINES],
        "replays": [line[:500] for line in said + checkers if kernel.REPLAYS.search(line)][: kernel.LINES],
        "lines": len(said),
    }
