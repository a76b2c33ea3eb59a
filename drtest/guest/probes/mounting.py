"""Mounting for a moment: what the kernel says of a filesystem, and its own replay of the log."""

import errno
import os
import re
import time
from typing import Any, Dict, List, Optional

from drtest.guest.probes import disks, kernel, prelude

_NO_MODULE = re.compile(
    r"unknown filesystem type|No such device|must be superuser|permission denied", re.IGNORECASE
)
_IO_ERROR = re.compile(r"I/O error, dev ")


def set_read_only(devices: List[str], read_only: bool) -> None:
    """Sets block devices read-only, or writable again, for everything on this machine."""
    order = devices if not read_only else list(reversed(devices))
    for device in order:
        prelude.run(["blockdev", "--setro" if read_only else "--setrw", device], 30)


class Mounted:
    """A filesystem while it is mounted on a folder of this program's own.

    Attributes:
        top: the folder; empty where it did not mount.
        output: what mount and umount said.
        exit: the exit code of mount (or of umount, where that failed).
        lines: what the kernel said of this device meanwhile.
        why: why it did not mount, in one line.
        damaged: it did not mount, and by all that is known the filesystem itself is why.
        unknown: this kernel does not know the filesystem or one of its features.
    """

    def __init__(self, device: str, filesystem: str, options: str) -> None:
        self.device = device
        self.filesystem = filesystem
        self.options = options
        self.top = ""
        self.output = ""
        self.exit: Optional[int] = None
        self.error = ""
        self.lines: List[str] = []
        self.why = ""
        self.damaged = False
        self.unknown = False
        self._log = kernel.Log()

    def __enter__(self) -> "Mounted":
        folder = prelude.scratch("mnt-" + os.path.basename(self.device))
        os.makedirs(folder, exist_ok=True)
        ran = prelude.run(["mount", "-t", self.filesystem, "-o", self.options, self.device, folder], 1800)
        self.output, self.exit, self.error = ran.output, ran.exit, ran.error
        if ran.ok:
            source = [mount.source for mount in disks.mounts() if mount.target == folder]
            if source and os.path.realpath(source[-1]) != os.path.realpath(self.device):
                self.why = self.error = "{} was mounted in place of {}".format(source[-1], self.device)
                prelude.run(["umount", folder], 60)
            else:
                self.top = folder
        else:
            self._explain()
        return self

    def _explain(self) -> None:
        self._hear()
        text = "\n".join(self.lines)
        self.unknown = bool(kernel.UNKNOWN.search(text)) or bool(_NO_MODULE.search(self.output))
        outside = bool(self.error) or self.unknown or bool(_IO_ERROR.search(text))
        self.damaged = not outside
        said = [line for line in self.lines if kernel.matches([line])] or self.lines
        first = self.output.strip().splitlines()[:1]
        self.why = (
            self.error or "; ".join((said[:2] if said else first)) or "mount ended with {}".format(self.exit)
        )

    def _hear(self) -> None:
        name = re.compile(r"\b{}\b".format(re.escape(os.path.basename(self.device))))
        self.lines.extend(line.text[:500] for line in self._log.read() if name.search(line.text))

    def __exit__(self, *_: Any) -> None:
        if self.top:
            for _attempt in range(3):
                ran = prelude.run(["umount", self.top], 300)
                if ran.ok or ran.error:
                    break
            if not ran.ok:
                self.exit, self.error = ran.exit, ran.error or "it can't be unmounted: " + ran.output.strip()
            elif not _released(self.device):
                self.error = "it is unmounted, and still in use: by a mount namespace of some other program"
            self.output += ran.output
        self._hear()
        self._log.close()


def _released(device: str) -> bool:
    """Waits until a filesystem has ended: it goes on while another mount namespace has a copy of its mount."""
    ends = time.monotonic() + min(60.0, prelude.left())
    while True:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
            return True
        except OSError as problem:
            if problem.errno != errno.EBUSY:
                return True
        if time.monotonic() >= ends:
            return False
        time.sleep(0.05)


def drop_leftovers() -> None:
    """Unmounts what a child that was ended has left mounted, at once or as soon as nobody uses it.

    Nothing is hidden in a mount namespace of this program's own: a copy of the namespace would hold every other mount
    of this machine, so that an unmount elsewhere would end nothing while this runs.
    """
    ours = os.path.dirname(prelude.scratch("x")) + "/"
    for mount in reversed(disks.mounts()):
        if mount.target.startswith(ours) and not prelude.run(["umount", mount.target], 30).ok:
            prelude.run(["umount", "-l", mount.target], 30)


def kernel_replay(device: str, filesystem: str, options: str) -> Dict[str, Any]:
    """Replays a log as a boot would: mount, unmount."""
    with Mounted(device, filesystem, options) as mounted:
        pass
    output = (mounted.output + "\n" + "\n".join(mounted.lines)).strip()
    told = mounted.unknown or (not mounted.damaged and not mounted.top)
    return {
        "method": "mount -o {}; umount".format(options),
        "exit": mounted.exit,
        "replayed": bool(mounted.top) and not mounted.error,
        "output": output,
        "error": mounted.error or (mounted.why if told else ""),
        "failed": mounted.damaged,
        "why": mounted.why,
        "unknown_features": [mounted.why] if mounted.unknown and kernel.UNKNOWN.search(output) else [],
    }
