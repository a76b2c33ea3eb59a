"""A volume's id as a disk's serial: what an EBS volume is known by in a guest."""


def serial_of(volume: str) -> str:
    """``vol0123456789abcdef0`` of ``vol-0123456789abcdef0``, or of a serial itself (EC2 User Guide, EBS and NVMe)."""
    return volume.replace("-", "").lower()
