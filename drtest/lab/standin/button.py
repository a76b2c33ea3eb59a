"""The power button: ACPI's, as Linux hands it on as a key."""

import os
import select
import struct
from collections.abc import Callable
from pathlib import Path

_EVENT = struct.Struct("@llHHi")
_KEY, _POWER, _PRESSED = 1, 116, 1


def wait_for_press(
    pressed: Callable[[], bool] = lambda: False, *, devices: Path = Path("/dev/input")
) -> None:
    """Returns when the button is pressed.

    Args:
        pressed: whether it is to return all the same; is asked once a second.
        devices: where the input devices are.
    """
    files = [os.open(one, os.O_RDONLY | os.O_NONBLOCK) for one in sorted(devices.glob("event*"))]
    try:
        while not pressed():
            for file in select.select(files, [], [], 1.0)[0]:
                data = os.read(file, 64 * _EVENT.size)
                for _, _, kind, code, value in _EVENT.iter_unpack(
                    data[: len(data) // _EVENT.size * _EVENT.size]
                ):
                    if (kind, code, value) == (_KEY, _POWER, _PRESSED):
                        return
    finally:
        for file in files:
            os.close(file)
