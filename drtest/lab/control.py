"""Bringing the lab up and down, and asking how it is: what the command line and the drills use."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drtest.errors import DeadlineError, EnvironmentFailedError, UsageError
from drtest.lab.folder import LabFolder, LabMachine, LabStatus, default_folder
from drtest.lab.images import Progress

ANSWER_SECONDS = 20.0
"""How long the lab's process may take to say how it is."""

STARTING_SECONDS = 3600.0
"""How long one waits for another who is starting the same lab: the first time, images are built."""


def up(
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
    idle_minutes: float | None = None,
    images: Sequence[str] = ("linux",),
    pool: Mapping[str, float] | None = None,
    seed: int | None = None,
    deadline: float = 60.0,
) -> LabStatus:
    """Bring a lab up, or find it up; two who do so at once get one lab.

    The images are built first, in this process; the first time that takes minutes. A lab whose process died is
    taken up again with its machines and disks, and ``lost`` of the answer says what could not be.

    Args:
        folder: where it lives; by default `default_folder`.
        progress: is told the stage and its fraction while images are built.
        idle_minutes: the lab ends by itself after so long without a request; None for never. A lab that is up
            already keeps what it has.
        images: names of the images that it must have, as ``linux``, ``windows`` and ``windows-helper``; one that is
            up gets those that it has not.
        pool: by the names of images, how strong the write pool in front of their root volumes is, 0 to 1, in the
            place of what the image says itself; the lab will have these images, too.
        seed: what the write pools draw from; by default a number of the lab's own. A lab keeps both for its life.
        deadline: seconds that its process may take to answer.

    Raises:
        UsageError: there is no such image, or the lab is up with other write pools.
        EnvironmentFailedError: an image could not be built, or the lab did not come up; with the end of its log.
        DeadlineError: another process has been starting the same lab for an hour.
    """
    place = LabFolder(folder or default_folder())
    place.make()
    images = tuple(dict.fromkeys((*images, *(pool or {}))))
    with place.starting(deadline=STARTING_SECONDS):
        found = _status(place)
        if found is not None:
            missing = [name for name in images if name not in found.images]
            found = _with_images(found, missing, progress) if missing else found
        else:
            found = _start(place, images, progress, idle_minutes, deadline, dict(pool or {}), seed)
    _check_pools(found, pool or {}, seed)
    return found


def _check_pools(found: LabStatus, pool: Mapping[str, float], seed: int | None) -> None:
    """Check that a lab has the write pools that were asked for: they are set when it is brought up."""
    wrong = [f"{name}={found.pool[name]:g}" for name in sorted(pool) if found.pool[name] != pool[name]]
    wrong += [f"seed {found.seed}"] if seed not in {None, found.seed} else []
    if wrong:
        raise UsageError(
            f"The lab that is up has other write pools than that: {', '.join(wrong)}.",
            remedy="Write pools are set for a lab's life: run `drtest lab down` first, which removes what is in it.",
        )


def _start(
    place: LabFolder,
    images: Sequence[str],
    progress: Progress | None,
    idle_minutes: float | None,
    deadline: float,
    pool: Mapping[str, float],
    seed: int | None,
) -> LabStatus:
    # Not above: QEMU's and moto's side of the lab is not needed to ask for its status.
    from drtest.lab import accelerator
    from drtest.lab import images as guests

    built = [guests.build(name, progress=progress) for name in images]
    chosen = accelerator.Accelerator(name="tcg", reason="There is no image to try KVM with.")
    if built:
        chosen = accelerator.choose(
            built[0], progress=lambda stage: progress(stage, 1.0) if progress else None
        )
    command = [sys.executable, "-m", "drtest.lab.daemon", "--folder", str(place.path)]
    command += ["--images", ",".join(images), "--accelerator", chosen.name, "--reason", chosen.reason]
    if idle_minutes is not None:
        command += ["--idle-seconds", str(60 * idle_minutes)]
    command += [f"--pool={name}={strength}" for name, strength in pool.items()]
    command += [] if seed is None else ["--seed", str(seed)]
    place.status_file.unlink(missing_ok=True)
    with place.log_file.open("wb") as log:
        place.log_file.chmod(0o600)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        status = place.read_status()
        if status is not None and status.pid == process.pid:
            return _status(place) or status
        if process.poll() is not None:
            raise EnvironmentFailedError(
                f"The lab's process ended at once (exit code {process.returncode}): {_tail(place)}",
                remedy=f"Its log is {place.log_file}. `drtest lab down` removes what is left.",
            )
        time.sleep(0.05)
    process.terminate()
    raise DeadlineError(
        f"The lab did not answer within {deadline:.0f} s: {_tail(place)}",
        remedy=f"Its log is {place.log_file}.",
    )


def _tail(place: LabFolder) -> str:
    try:
        return place.log_file.read_text(errors="replace")[-2000:].strip() or "its log is empty"
    except OSError as error:
        return str(error)


def _with_images(found: LabStatus, missing: Sequence[str], progress: Progress | None) -> LabStatus:
    from drtest.lab import images as guests

    for name in missing:
        guests.build(name, progress=progress)
    answer = _ask(found, "images", json.dumps(list(missing)).encode())
    return _merged(found, answer)


def status(folder: Path | None = None) -> LabStatus | None:
    """Say how the lab is; None if it is not up.

    Raises:
        EnvironmentFailedError: its process is there but does not answer.
    """
    return _status(LabFolder(folder or default_folder()))


def _status(place: LabFolder, *, seconds: float = ANSWER_SECONDS) -> LabStatus | None:
    if place.owner() is None:
        return None
    found = place.read_status()
    if found is None:
        return None
    try:
        return _merged(found, _ask(found, "status", b"", seconds=seconds))
    except EnvironmentFailedError:
        # It may be going at this very moment: then its lock or its status file is gone a moment later.
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            if place.owner() is None or place.read_status() is None:
                return None
            time.sleep(0.05)
        raise


def faults(plan: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> dict[str, Any]:
    """Set the faults of a lab that is up, or ask for them.

    Args:
        plan: the document of a fault file, checked; an empty one ends all faults, None only asks.
        folder: where the lab lives.

    Returns:
        The plan, and for each fault the ``calls`` that it could have happened to and its ``hits``.

    Raises:
        EnvironmentFailedError: no lab is up, or it does not answer.
    """
    found = _status(LabFolder(folder or default_folder()))
    if found is None:
        raise EnvironmentFailedError("No lab is up.", remedy="`drtest lab up` brings one up.")
    return _ask(found, "faults", b"" if plan is None else json.dumps(plan).encode())


def _merged(found: LabStatus, answer: dict[str, Any]) -> LabStatus:
    machines = tuple(LabMachine(**machine) for machine in answer["machines"])
    trouble = tuple(answer["trouble"])
    return replace(found, images=answer["images"], pool=answer["pool"], machines=machines, trouble=trouble)


def _ask(found: LabStatus, what: str, body: bytes, *, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
    """Ask the lab's process over its own door, which is no part of AWS's API and counts as no activity."""
    place = urlsplit(found.endpoint)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=seconds)
    headers = {"Authorization": f"Bearer {found.access_key}"}
    try:
        connection.request("POST", f"/drtest-lab/{what}", body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        document: dict[str, Any] = json.loads(text) if answer.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EnvironmentFailedError(
            f"The lab's process {found.pid} runs but does not answer at {found.endpoint}: {error}",
            remedy="`drtest lab down` ends it and what it started.",
        ) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise EnvironmentFailedError(f"The lab's process {found.pid} answers {answer.status}: {text[:300]!r}")
    return document


def down(folder: Path | None = None, *, deadline: float = 30.0) -> list[str]:
    """Take the lab down: its process, its machines, its disks and its books.

    It works when the lab's process is dead, too: machines are found by their folders, and told from other processes
    by what they were started with.

    Args:
        folder: where it lives.
        deadline: seconds that the lab's process has to do it by itself; after that it is killed.

    Returns:
        What was stopped or removed, as sentences; empty if there was nothing.

    Raises:
        DeadlineError: its process could not be ended.
    """
    from drtest.lab.reclaim import remove_all

    place = LabFolder(folder or default_folder())
    if not place.is_lab:
        return []
    done = []
    with place.starting(deadline=STARTING_SECONDS):
        pid = place.owner()
        if pid is not None:
            done += _stop(place, pid, deadline)
        done += remove_all(place)
    return done


def _stop(place: LabFolder, pid: int, deadline: float) -> list[str]:
    try:
        found = _status(place, seconds=min(2.0, deadline))
    except EnvironmentFailedError:
        found = None
    machines = [f"the machine of {machine.instance}" for machine in (found.machines if found else ())]
    for number, seconds in ((signal.SIGTERM, deadline), (signal.SIGKILL, 10.0)):
        # The lock says that this very process is the lab: the number can't be another's.
        os.kill(pid, number)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if place.owner() is None:
                how = "" if number == signal.SIGTERM else ", killed"
                return [f"the lab (process {pid}{how})", *machines]
            time.sleep(0.05)
    raise DeadlineError(f"The lab's process {pid} could not be ended.", remedy=f"Look at it: ps -fp {pid}")
