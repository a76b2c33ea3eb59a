"""The source before any capture: what its restored copies are compared with."""

from typing import Any, Dict, List

from drtest.guest.probes import disks, prelude, system

COMMAND = "systemctl is-system-running; systemctl list-units --failed; findmnt --real; uname -r"


def main(arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One observation, of the whole system."""
    return [prelude.guarded("baseline.system", COMMAND, lambda: _look(float(arguments.get("settle", 60))))]


def _look(settle: float) -> Dict[str, Any]:
    data = system.identity()
    data.update(system.state(settle))
    data.update(
        mounts=system.mounts(),
        storage=disks.storage(),
        virtualisation=system.virtualisation(),
        release=system.release(),
    )
    return data
