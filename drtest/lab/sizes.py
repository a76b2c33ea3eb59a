"""What sizes of volumes there are, by their type."""

from drtest.lab import refusal

GIB = 1024**3

_SIZES = {
    "gp2": (1, 16384),
    "gp3": (1, 65536),
    "io1": (4, 16384),
    "io2": (4, 65536),
    "st1": (125, 16384),
    "sc1": (125, 16384),
    "standard": (1, 1024),
}
"""GiB, at least and at most (API_CreateVolume, ``Size``)."""


def check_size(size: int, *, kind: str, iops: int | None) -> None:
    """Check a volume's size against its type.

    Args:
        size: GiB.
        kind: the volume type.
        iops: what is asked for; io1 and io2 need it.

    Raises:
        Refusal: ``InvalidParameterValue``, ``MissingParameter`` or ``UnknownVolumeType``.
    """
    if kind not in _SIZES:
        raise refusal.Refusal("UnknownVolumeType", f"Unsupported volume type '{kind}' for volume creation.")
    least, most = _SIZES[kind]
    if size < least:
        raise refusal.bad_value(
            f"Volume of {size}GiB is too small for the {kind} volume type; minimum is {least}GiB."
        )
    if size > most:
        raise refusal.bad_value(
            f"Volume of {size}GiB is too large for the {kind} volume type; maximum is {most}GiB."
        )
    if kind in {"io1", "io2"} and iops is None:
        raise refusal.missing("iops")


_MACHINES = {"nano": (512, 1), "micro": (512, 1), "small": (768, 1)}


def machine_size(instance_type: str) -> tuple[int, int]:
    """Say what an instance type is here: MiB of memory and processors, capped at what a small host can bear."""
    return _MACHINES.get(instance_type.partition(".")[2], (1024, 2))
