"""ModifyVolume and DescribeVolumesModifications: a volume's size, type and performance."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from drtest.errors import DrtestError
from drtest.lab import refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.filters import Field, page, select
from drtest.lab.lookup import find, find_all
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Modification, Shape, Volume
from drtest.lab.sizes import GIB, check_size
from drtest.lab.volumes import shown_iops, shown_throughput

LOG = logging.getLogger(__name__)

MAX_A_DAY = 4
"""API_ModifyVolume: "You can modify a volume up to four times within a rolling 24-hour period"."""


def modify_volume(lab: Compute, call: Call) -> Answer:
    """Make a volume larger, or of another type (API_ModifyVolume), behind the call.

    "The target volume size must be greater than or equal to the existing size of the volume."

    Raises:
        Refusal: ``IncorrectState``, ``IncorrectModificationState`` while an earlier modification goes on,
            ``VolumeModificationRateExceeded``, ``InvalidParameterValue``.
    """
    call.only("Iops", "Size", "Throughput", "VolumeId", "VolumeType")
    with lab.books.open():
        volume = find(lab, call, Volume, call.required("VolumeId"))
        if volume.state not in {"available", "in-use"}:
            raise Refusal("IncorrectState", f"The volume '{volume.id}' is '{volume.state}'.")
        before = volume.modification
        if before is not None and before.state in {"modifying", "optimizing"}:
            raise Refusal(
                "IncorrectModificationState",
                f"Cannot modify volume {volume.id} in modification state {before.state.upper()}",
            )
        time = now()
        recent = () if before is None else (*before.earlier, before.started)
        recent = tuple(start for start in recent if time - start < timedelta(days=1))
        if len(recent) >= MAX_A_DAY:
            raise Refusal(
                "VolumeModificationRateExceeded",
                f"You've reached the maximum modification rate per volume limit. {volume.id} can be modified "
                f"again at {recent[0] + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}.",
            )
        target = _target(call, volume)
        call.not_dry()
        change = Modification(
            state="modifying",
            original=Shape(
                size=volume.size, type=volume.type, iops=volume.iops, throughput=volume.throughput
            ),
            target=target,
            started=time,
            earlier=recent,
        )
        volume = replace(volume, modification=change)
        lab.books.put(volume)
    lab.work.later(lab.timings.modify, lambda: go_on(lab, volume.id))
    return {"VolumeModification": _view(volume)}


def _target(call: Call, volume: Volume) -> Shape:
    kind, size = call.text("VolumeType", volume.type), call.number("Size")
    iops, throughput = call.number("Iops"), call.number("Throughput")
    if size is not None and size < volume.size:
        raise refusal.bad_value(
            f"New size cannot be smaller than existing size: {volume.id} has {volume.size} GiB."
        )
    if iops is not None and kind not in {"gp3", "io1", "io2"}:
        raise refusal.bad_value(f"The parameter iops is not supported for {kind} volumes.")
    if throughput is not None and kind != "gp3":
        raise refusal.bad_value(f"The parameter throughput is not supported for {kind} volumes.")
    if throughput is not None and not 125 <= throughput <= 2000:
        raise refusal.bad_value("Throughput has to be between 125 and 2,000 MiB/s.")
    if iops is None:
        default = 3000 if kind in {"gp3", "io1", "io2"} else None
        iops = volume.iops if kind == volume.type else default
    if throughput is None and kind == "gp3":
        throughput = volume.throughput if volume.type == "gp3" else 125
    check_size(size or volume.size, kind=kind, iops=iops)
    return Shape(size=size or volume.size, type=kind, iops=iops, throughput=throughput)


def go_on(lab: Compute, volume_id: str) -> None:
    """Bring a modification forward that was cut off, or whose time has come; called behind the call."""
    volume = lab.books.find(Volume, volume_id)
    state = volume.modification.state if volume and volume.modification else ""
    if state == "modifying":
        lab.work.soon(lambda: _carry_out(lab, volume_id), name=f"modify-{volume_id}")
    elif state == "optimizing":
        _put(lab, volume_id, lambda change: replace(change, state="completed", progress=100, ended=now()))


def _carry_out(lab: Compute, volume_id: str) -> None:
    with lab.lanes(volume_id):
        volume = lab.books.find(Volume, volume_id)
        change = volume.modification if volume else None
        if volume is None or change is None or change.state != "modifying":
            return
        try:
            if change.target.size > volume.size:
                _grow(lab, volume, change.target.size * GIB)
        except (DrtestError, OSError) as error:
            LOG.exception("%s could not be made larger", volume_id)
            why = str(error)
            _put(lab, volume_id, lambda c: replace(c, state="failed", message=why, ended=now()))
            return
        with lab.books.open():
            volume = lab.books.find(Volume, volume_id)
            if volume is None:
                return
            lab.books.put(
                replace(
                    volume,
                    size=change.target.size,
                    type=change.target.type,
                    iops=change.target.iops,
                    throughput=change.target.throughput,
                    modification=replace(change, state="optimizing", progress=50),
                )
            )
    # "Size changes usually take a few seconds to complete and take effect after the volume has transitioned to
    # the Optimizing state" (https://docs.aws.amazon.com/ebs/latest/userguide/monitoring-volume-modifications.html).
    lab.work.later(lab.timings.modify, lambda: go_on(lab, volume_id))


def _grow(lab: Compute, volume: Volume, size: int) -> None:
    holder = volume.attachment.instance if volume.attachment else None
    live = holder is not None and volume.id in lab.hardware.plugged(holder)
    try:
        lab.hardware.grow(volume.id, size=size, instance=holder if live else None)
    except DrtestError:
        if not live or (holder is not None and lab.hardware.running(holder)):
            raise
        # The machine ended in this very moment: its disk lies still now.
        lab.hardware.grow(volume.id, size=size, instance=None)


def _put(lab: Compute, volume_id: str, changed: Callable[[Modification], Modification]) -> None:
    with lab.books.open():
        volume = lab.books.find(Volume, volume_id)
        if volume is not None and volume.modification is not None:
            lab.books.put(replace(volume, modification=changed(volume.modification)))


def _view(volume: Volume) -> dict[str, Any]:
    change = volume.modification
    if change is None:
        return {}
    shown: dict[str, Any] = {
        "VolumeId": volume.id,
        "ModificationState": change.state,
        "StatusMessage": change.message or None,
        "Progress": change.progress,
        "StartTime": change.started,
        "EndTime": change.ended,
    }
    for name, shape in (("Original", change.original), ("Target", change.target)):
        shown |= {
            f"{name}Size": shape.size,
            f"{name}VolumeType": shape.type,
            f"{name}Iops": shown_iops(shape.type, shape.size, shape.iops),
            f"{name}Throughput": shown_throughput(shape.type, shape.throughput),
            f"{name}MultiAttachEnabled": False,
        }
    return shown


def _shown(name: str) -> Field[Volume]:
    return lambda volume: _view(volume).get(name)


FIELDS: Mapping[str, Field[Volume]] = {
    "modification-state": _shown("ModificationState"),
    "original-iops": _shown("OriginalIops"),
    "original-size": _shown("OriginalSize"),
    "original-volume-type": _shown("OriginalVolumeType"),
    "originalMultiAttachEnabled": _shown("OriginalMultiAttachEnabled"),
    "start-time": _shown("StartTime"),
    "target-iops": _shown("TargetIops"),
    "target-size": _shown("TargetSize"),
    "target-volume-type": _shown("TargetVolumeType"),
    "targetMultiAttachEnabled": _shown("TargetMultiAttachEnabled"),
}
"""What the filters of API_DescribeVolumesModifications look at."""


def describe_volumes_modifications(lab: Compute, call: Call) -> Answer:
    """Show the latest modification of each volume that had one (API_DescribeVolumesModifications).

    Raises:
        Refusal: ``InvalidVolumeModification.NotFound`` for a volume by its id that had none.
    """
    call.only("Filters", "MaxResults", "NextToken", "VolumeIds")
    ids = call.texts("VolumeIds")
    found = find_all(lab, call, Volume, ids) if ids else lab.visible(Volume, call)
    call.not_dry()
    changed = [volume for volume in found if volume.modification is not None]
    if ids and len(changed) < len(found):
        names = ", ".join(volume.id for volume in found if volume.modification is None)
        raise Refusal(
            "InvalidVolumeModification.NotFound", f"Modification for volume '{names}' does not exist."
        )
    chosen = select(changed, call.params.get("Filters", []), fields=FIELDS, tags=lambda v: v.tags)
    some, token = page(sorted(chosen, key=lambda v: v.number), call, ids="volumeId", given=ids)
    return {"VolumesModifications": [_view(volume) for volume in some], "NextToken": token}
