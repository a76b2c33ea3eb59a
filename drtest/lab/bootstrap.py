"""Debian's packages as a tree, put together without root: mmdebstrap, heard while it works, and cleaned up after."""

import getpass
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from drtest.errors import EnvironmentFailedError
from drtest.lab import apt
from drtest.lab.tools import Tools, remove

SUITE = "bookworm"
"""Debian 12: its cloud kernel has NVMe and ext4 built in, so that it needs no initrd."""

Tell = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What is to be put together.

    Attributes:
        recipe: the folder with ``customize.sh``, which makes of the packages what is wanted, and what that needs.
        packages: their names; what they depend on comes with them.
        variant: how mmdebstrap installs them: ``minbase``, or ``extract`` for no more than their files.
        excluded: paths that dpkg does not unpack; not with ``extract``, which does without dpkg's settings.
        arguments: what ``customize.sh`` is told behind the tree and the recipe.
        taken: names of the files that it leaves in /tmp/taken.
        whole: whether the tree itself is wanted, too, as ``root.tar``.
    """

    recipe: Path
    packages: Sequence[str]
    variant: str = "minbase"
    excluded: Sequence[str] = ()
    arguments: Sequence[str] = ()
    taken: Sequence[str] = ()
    whole: bool = True


def bootstrap(tree: Tree, work: Path, *, name: str, tools: Tools, tell: Tell) -> None:
    """Leave what is taken from the tree, and perhaps ``root.tar``, in ``work``.

    Args:
        tree: what is wanted.
        work: a folder that is there; the caller removes it.
        name: what this build is called; of one name there is one at a time.
        tools: runs mmdebstrap.
        tell: is told the stage and the fraction done, to 0.8.

    Raises:
        EnvironmentFailedError: mmdebstrap is missing, or failed, or this user has no subordinate ids for it.
    """
    mode = "root" if os.geteuid() == 0 else "unshare"
    if mode == "unshare":
        _refuse_without_subordinate_ids()
    settings = [shutil.which("apt-config") or "true", "dump"]
    dump = subprocess.run(settings, capture_output=True, text=True, timeout=60, check=False).stdout
    argv = ["mmdebstrap", f"--mode={mode}", f"--variant={tree.variant}", "--verbose"]
    argv += [f"--format={'tar' if tree.whole else 'null'}"]
    argv += [f"--include={','.join(tree.packages)}"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in tree.excluded]
    argv += [f"--aptopt={option}" for option in ('Apt::Install-Recommends "false"', *apt.options(dump))]
    # In its namespace a hook can't read our folders (a home is 0700): what it needs is copied in by mmdebstrap.
    recipe = tree.recipe
    hooks = [f"copy-in {shlex.quote(str(recipe))} /tmp"]
    hooks += [f'mv "$1/tmp/{recipe.name}" "$1/tmp/recipe"'] if recipe.name != "recipe" else []
    words = " ".join(['"$1"', '"$1/tmp/recipe"', *map(shlex.quote, tree.arguments)])
    hooks += [f'sh "$1/tmp/recipe/customize.sh" {words}']
    hooks += [f"download /tmp/taken/{taken} {shlex.quote(str(work / taken))}" for taken in tree.taken]
    hooks += ['rm -rf "$1/tmp/recipe" "$1/tmp/taken"']
    # Where nothing is installed, there is no other moment.
    moment = "extract" if tree.variant == "extract" else "customize"
    argv += [f"--{moment}-hook={hook}" for hook in hooks]
    target = str(work / "root.tar") if tree.whole else "/dev/null"
    argv += [SUITE, target, *apt.sources(SUITE)]
    with _temporary(name) as folder:
        tools.run(argv, within=_apart(), environment={"TMPDIR": str(folder)}, heard=_Progress(tell))


def _apart() -> list[str]:
    """As root, what mmdebstrap mounts and starts is its own and goes with it, however it ends.

    Otherwise its user namespace sees to that; and where root may not do it, in a container, it can't mount either.
    """
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    if os.geteuid():
        return []
    tried = subprocess.run([*apart, "true"], capture_output=True, timeout=60, check=False)
    return apart if tried.returncode == 0 else []


def _refuse_without_subordinate_ids() -> None:
    """A user namespace with more than one user in it needs user ids that belong to nobody else."""
    user = getpass.getuser()
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        lines = path.read_text().splitlines() if path.exists() else []
        if not any(line.split(":")[0] in {user, str(os.getuid())} for line in lines):
            raise EnvironmentFailedError(
                f"{path} has no ids for {user}, which mmdebstrap needs to work without root.",
                remedy=f"Run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )


class _Progress:
    """Reads mmdebstrap's output as progress: how far it is shows in what apt and dpkg say per package."""

    STAGES = (
        ("I: running apt-get update", "reading Debian's package lists", 0.01),
        ("Get:", "fetching Debian's packages", 0.05),
        ("Unpacking ", "installing Debian's packages", 0.3),
        ("Setting up ", "installing Debian's packages", 0.3),
        ("I: running --customize-hook", "turning it into a guest", 0.7),
        ("I: running --extract-hook", "turning it into a guest", 0.7),
        ("I: creating tarball", "packing it up", 0.75),
    )
    """How a line starts, what that means, and how much is done at least when it first appears."""
    EACH = 0.4 / 340
    """What one line is worth: some 170 packages are unpacked and set up."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._stage, self._fraction = 0, 0.0
        tell("starting mmdebstrap", 0.0)

    def __call__(self, line: str) -> None:
        for number, (start, _, floor) in enumerate(self.STAGES):
            if line.startswith(start):
                self._stage = max(self._stage, number)
                self._fraction = min(max(self._fraction + self.EACH, floor), 0.79)
                self._tell(self.STAGES[self._stage][1], self._fraction)
                return


@contextmanager
def _temporary(name: str) -> Iterator[Path]:
    """Give mmdebstrap a folder that the users of its namespace can reach, and see that it goes away."""
    parent = Path("/var/tmp")  # noqa: S108 - mkdtemp makes the name; a user's own TMPDIR may be private
    prefix = f"drtest-{os.getuid()}-{name}-"
    for left in parent.glob(f"{prefix}*"):
        if left.lstat().st_uid == os.getuid():
            _remove_tree(left)  # of a build that was killed: there is but one at a time
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    """Delete what mmdebstrap left, as far as that can be done: an orphan in /var/tmp lets no build fail."""
    with suppress(OSError, EnvironmentFailedError):
        foreign = [str(path) for path in folder.iterdir() if path.stat().st_uid != os.geteuid()]
        if foreign:
            # What the namespace's users have can be deleted only in there, and the emptied folders only out here.
            folder.chmod(0o755)
            argv = ["mmdebstrap", "--unshare-helper", "find", *foreign, "-xdev", "-mindepth", "1", "-delete"]
            subprocess.run(argv, capture_output=True, timeout=300, check=False)
        remove(folder)
