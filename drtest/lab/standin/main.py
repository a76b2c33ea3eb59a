"""From the boot to the shutdown, in their order."""

import os
import secrets
import threading
import traceback
from pathlib import Path

from drtest.lab.standin import screen
from drtest.lab.standin.button import wait_for_press
from drtest.lab.standin.machine import ThisMachine
from drtest.lab.standin.screen import Stop
from drtest.lab.standin.windows import CERTIFICATE, boot

PORT = 5986
USER = "Administrator"
ACCOUNTS = Path("/run/drtest/accounts")


def main() -> None:
    """All of it; it is the guest's first process, so it never returns."""
    try:
        run(ThisMachine())
    except Stop as why:
        screen.stop(why)
    except BaseException as problem:  # the kernel panics without its first process
        screen.say(traceback.format_exc())
        words = f"{type(problem).__name__}: {problem}"
        screen.stop(Stop(code=0x1E, name="KMODE_EXCEPTION_NOT_HANDLED", words=words))


def run(machine: ThisMachine) -> None:
    """Boots, serves until the power button is pressed, and shuts down.

    A machine that the lab tells ``setup`` is an image that is being made: it goes down again once its C: is installed.

    Raises:
        Stop: it did not come up, or could not go on.
    """
    windows = boot(machine, top=Path("/"))
    if machine.told("setup"):
        windows.shut_down()
        power_off()
    # These take seconds to import where the processor is emulated: a boot that ends in a STOP does without.
    from drtest.lab.standin import certificate, storage
    from drtest.lab.standin.answers import probes
    from drtest.lab.winrm import security
    from drtest.lab.winrm.service import Service

    windows.registry.name_machine()
    file = storage.File(windows.system / CERTIFICATE)
    shown = certificate.kept(file, hostname=machine.hostname)
    file.close()
    # Without a password nobody gets in.
    security.install({USER: machine.told("password") or secrets.token_hex(16)}, ACCOUNTS)
    failures: list[BaseException] = []
    pressed = threading.Event()

    def failed(problem: BaseException) -> None:
        failures.append(problem)
        pressed.set()

    windows.keep_writing(failed)
    with Service(("0.0.0.0", PORT), probes=probes(windows), certificate=shown):  # noqa: S104 the guest's own network
        screen.say(f"{shown.console()}Windows is ready to use.\n")
        wait_for_press(pressed.is_set)
    if failures:
        raise Stop(code=0x51, name="REGISTRY_ERROR", words=str(failures[0]))
    screen.say("Shutting down.\n")
    windows.shut_down()
    power_off()


def power_off() -> None:
    """Switches the machine off; all volumes are closed by now."""
    os.sync()
    Path("/proc/sysrq-trigger").write_text("o")
    threading.Event().wait()
