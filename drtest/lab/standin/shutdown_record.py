r"""The record of whether Windows was shut down cleanly: set at each boot, cleared at each shutdown.

It has the place of Windows' boot status data (``\Windows\bootstat.dat``), and is one sector.
"""

import struct

from drtest.lab.standin.storage import Storage

SIZE = 4096
_RECORD = struct.Struct("<8sId")
_MAGIC = b"drtboot1"
_RUNNING, _DOWN = 1, 2


class ShutdownRecord:
    """The record.

    Attributes:
        unclean_since: when the system was last seen to come up without going down after it, in seconds since 1970; None
            if it went down cleanly, or never ran.
    """

    def __init__(self, file: Storage) -> None:
        self._file = file
        magic, state, at = _RECORD.unpack(file.read(0, _RECORD.size))
        self.unclean_since: float | None = at if magic == _MAGIC and state == _RUNNING else None

    def set(self, *, now: float) -> None:
        """The system is up."""
        self._put(_RUNNING, now)

    def clear(self, *, now: float) -> None:
        """The system goes down in order."""
        self._put(_DOWN, now)

    def close(self) -> None:
        """Gives its file back."""
        self._file.close()

    def _put(self, state: int, now: float) -> None:
        self._file.write(0, _RECORD.pack(_MAGIC, state, now).ljust(512, b"\0"))
        self._file.flush()
