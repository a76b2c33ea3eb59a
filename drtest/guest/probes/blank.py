"""Empty filesystems that carry the UUIDs of others, for a root that wants to mount them at boot."""

import functools
from typing import Any, Dict, List

from drtest.guest.probes import disks, prelude, prepare


def main(arguments: Dict[str, Any]) -> List[Dict[str, Any]]:
    """One observation a volume."""
    return [
        prelude.guarded("blank.volume", "mkfs with a given UUID", functools.partial(_make, one), one["name"])
        for one in arguments["volumes"]
    ]


def _make(volume: Dict[str, Any]) -> Dict[str, Any]:
    disk = disks.find(volume["volume_id"], 60.0)
    kind, identity = volume["filesystem"], volume["uuid"]
    if disks.probe(disk.device).get("UUID") == identity:
        return {"device": disk.device, "made": False}
    why = disks.in_use(disk) or prepare.not_blank(disk)
    if why:
        raise prepare.RefusedError("{} is not formatted: {}".format(disk.device, why))
    if kind not in prepare.MAKE:
        raise prepare.RefusedError("this program makes no {}".format(kind or "filesystem of an unknown kind"))
    ran = prelude.run(prepare.MAKE[kind] + [("uuid=" if kind == "xfs" else "") + identity, disk.device], 600)
    if not ran.ok:
        raise prepare.RefusedError("{}: {}{}".format(ran.command, ran.error, ran.output[-500:]))
    return {"device": disk.device, "made": True}
