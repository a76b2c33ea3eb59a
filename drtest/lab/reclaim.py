"""Taking back what a lab left: QEMU processes, disks, books."""

import logging
import shutil

from drtest.errors import DrtestError
from drtest.lab.folder import LabFolder
from drtest.lab.machines import Machine

LOG = logging.getLogger(__name__)


def end_machines(folder: LabFolder) -> list[str]:
    """End the machines that run out of a lab's folder, whoever started them.

    Returns:
        What was ended, as sentences.
    """
    done = []
    for machine_folder in sorted(folder.machines.glob("i-*")):
        try:
            machine = Machine.adopt(machine_folder, lambda *_: None)
            if machine is not None:
                machine.kill()
                done.append(f"the machine of {machine_folder.name} (process {machine.pid})")
        except DrtestError as error:
            LOG.exception("the machine of %s could not be ended", machine_folder.name)
            done.append(f"NOT ended: the machine of {machine_folder.name}: {error.seen}")
    return done


def remove_all(folder: LabFolder) -> list[str]:
    """Remove what a lab whose process is gone has left; the log stays, to be read.

    Returns:
        What was removed or ended, as sentences.
    """
    done = end_machines(folder)
    for tree in (folder.machines, folder.disks):
        if tree.exists():
            shutil.rmtree(tree, ignore_errors=True)
            done.append(f"the files in {tree}")
    books = folder.books_file
    for file in (
        books,
        books.with_name(books.name + "-wal"),
        books.with_name(books.name + "-shm"),
        folder.key_file,
        folder.password_file,
    ):
        file.unlink(missing_ok=True)
    folder.status_file.unlink(missing_ok=True)
    return done
