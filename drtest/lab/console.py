"""GetConsoleOutput and GetConsoleScreenshot."""

import base64
from datetime import UTC, datetime

from drtest.errors import DrtestError
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.lookup import find
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance

LAST_BYTES = 64 * 1024
"""API_GetConsoleOutput: "the most recent 64 KB"."""

POSTED = "console.posted"


def post(lab: Compute, instance_id: str) -> None:
    """Keep the console as it is now: EC2 posts it "shortly after an instance transition state"."""
    folder = lab.hardware.folder(instance_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / POSTED).write_bytes(lab.hardware.console(instance_id)[-LAST_BYTES:])


def get_console_output(lab: Compute, call: Call) -> Answer:
    """Give the serial console's output (API_GetConsoleOutput).

    With ``Latest`` it is what there is now; without, what was posted shortly after the last transition.
    """
    call.only("InstanceId", "Latest")
    instance = find(lab, call, Instance, call.required("InstanceId"))
    call.not_dry()
    posted = lab.hardware.folder(instance.id) / POSTED
    if call.flag("Latest"):
        output, time = lab.hardware.console(instance.id)[-LAST_BYTES:], now()
    elif posted.exists():
        output, time = posted.read_bytes(), datetime.fromtimestamp(posted.stat().st_mtime, UTC)
    else:
        output, time = b"", now()
    return {
        "InstanceId": instance.id,
        "Timestamp": time,
        "Output": base64.b64encode(output).decode() if output else None,
    }


def get_console_screenshot(lab: Compute, call: Call) -> Answer:
    """Give a picture of the screen (API_GetConsoleScreenshot), as JPEG in base64.

    Raises:
        Refusal: ``IncorrectInstanceState`` if it does not run.
    """
    call.only("InstanceId", "WakeUp")
    instance = find(lab, call, Instance, call.required("InstanceId"))
    if instance.state != "running":
        raise Refusal(
            "IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'running' state."
        )
    call.not_dry()
    try:
        picture = lab.hardware.screenshot(instance.id)
    except DrtestError as error:
        raise Refusal(
            "InternalError", f"No screenshot of '{instance.id}': {error.seen}", status=500
        ) from error
    return {"InstanceId": instance.id, "ImageData": base64.b64encode(picture).decode()}
