"""StartInstances, StopInstances, RebootInstances, TerminateInstances."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from drtest.lab import lifecycle, refusal
from drtest.lab.call import Answer, Call
from drtest.lab.compute import Compute, now
from drtest.lab.instances import state_view
from drtest.lab.lifecycle import moved, user_initiated
from drtest.lab.lookup import find_all
from drtest.lab.machines import End
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Instance


def _instances(lab: Compute, call: Call) -> list[Instance]:
    ids = call.texts("InstanceIds")
    if not ids:
        raise refusal.missing("InstanceId")
    return find_all(lab, call, Instance, ids)


def _wrong_state(instance: Instance, wanted: str) -> Refusal:
    return Refusal(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be {wanted}.",
    )


def _change(before: Instance, after: str) -> dict[str, Any]:
    return {
        "InstanceId": before.id,
        "PreviousState": state_view(before.state),
        "CurrentState": state_view(after),
    }


def _all(tasks: list[Callable[[], None]], lab: Compute, name: str) -> None:
    for task in tasks:
        lab.work.soon(task, name=name)


def start_instances(lab: Compute, call: Call) -> Answer:
    """Start stopped instances (API_StartInstances): all of them, or none.

    Raises:
        Refusal: ``IncorrectInstanceState``, or ``InvalidParameterValue`` for one without a root volume.
    """
    call.only("InstanceIds")
    with lab.books.open():
        changes, started = [], []
        for instance in _instances(lab, call):
            if instance.state in {"pending", "running"}:
                changes.append(_change(instance, instance.state))
                continue
            if instance.state != "stopped":
                raise _wrong_state(instance, "started")
            attachments = [v.attachment for v in lab.books.attached(instance.id) if v.attachment]
            devices = {a.device for a in attachments if a.state != "detaching"}
            if instance.root_device not in devices:
                raise refusal.bad_value(
                    f"Invalid value '{instance.id}' for instanceId. Instance does not have a volume attached "
                    f"at root ({instance.root_device})"
                )
            again = replace(
                moved(instance, "pending"),
                launched=now(),
                address=lifecycle.pick_address(lab),
                rebooting=False,
            )
            lab.books.put(again)
            changes.append(_change(instance, "pending"))
            started.append(instance.id)
        call.not_dry()
    for key in started:
        lifecycle.boot_soon(lab, key)
    return {"StartingInstances": changes}


def stop_instances(lab: Compute, call: Call) -> Answer:
    """Stop running instances (API_StopInstances): the power button, then force at a deadline.

    ``Force`` has a short deadline, and acts on an instance that is already stopping; ``SkipOsShutdown`` does
    not ask the guest.

    Raises:
        Refusal: ``IncorrectInstanceState``, ``OperationNotPermitted``.
    """
    call.only("InstanceIds", "Force", "SkipOsShutdown", "Hibernate")
    if call.flag("Hibernate"):
        raise Refusal(
            "UnsupportedHibernationConfiguration", "The instance is not configured for hibernation."
        )
    skip, force = call.flag("SkipOsShutdown"), call.flag("Force")
    deadline = lab.timings.force_stop if force else lab.stop_seconds()
    tasks: list[Callable[[], None]] = []
    with lab.books.open():
        changes = []
        for instance in _instances(lab, call):
            if instance.state == "stopped" or (instance.state == "stopping" and not (force or skip)):
                changes.append(_change(instance, instance.state))
                continue
            if instance.state not in {"running", "stopping"}:
                raise _wrong_state(instance, "stopped")
            if instance.stop_protected:
                raise Refusal(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance "
                    "attribute and try again.",
                )
            if instance.state == "running":
                lab.books.put(
                    moved(
                        instance,
                        "stopping",
                        code="Client.UserInitiatedShutdown",
                        reason="User initiated shutdown",
                        transition=user_initiated(now()),
                    )
                )
            changes.append(_change(instance, "stopping"))
            tasks.append(lambda key=instance.id: _stop(lab, key, skip=skip, deadline=deadline))  # type: ignore[misc]
        call.not_dry()
    _all(tasks, lab, "stop")
    return {"StoppingInstances": changes}


def _stop(lab: Compute, instance_id: str, *, skip: bool, deadline: float) -> None:
    with lab.lanes(instance_id):
        if not lab.hardware.running(instance_id):
            # It was between the end of one machine and the start of the next.
            lifecycle.ended(lab, instance_id, End(code=None, reason="killed"))
        elif skip:
            lab.hardware.kill(instance_id)
        else:
            lifecycle.press(lab, instance_id, state="stopping", deadline=deadline)


def reboot_instances(lab: Compute, call: Call) -> Answer:
    """Reboot running instances (API_RebootInstances): they stay ``running`` and keep their addresses.

    "If an instance does not cleanly shut down within a few minutes, Amazon EC2 performs a hard reboot."

    Raises:
        Refusal: ``IncorrectInstanceState``.
    """
    call.only("InstanceIds")
    with lab.books.open():
        instances = _instances(lab, call)
        for instance in instances:
            if instance.state != "running":
                raise _wrong_state(instance, "rebooted")
            lab.books.put(replace(instance, rebooting=True))
        call.not_dry()
    _all([lambda key=i.id: reboot(lab, key) for i in instances], lab, "reboot")  # type: ignore[misc]
    return {}


def reboot(lab: Compute, instance_id: str) -> None:
    """Press the power button of a running instance that is marked as rebooting; its end starts it again."""
    with lab.lanes(instance_id):
        lifecycle.press(lab, instance_id, state="running", deadline=lab.stop_seconds())


def terminate_instances(lab: Compute, call: Call) -> Answer:
    """Terminate instances (API_TerminateInstances): all of them, or none.

    "If you terminate an instance more than once, each call succeeds."

    Raises:
        Refusal: ``OperationNotPermitted`` for one that is protected.
    """
    call.only("InstanceIds", "Force", "SkipOsShutdown")
    graceful = not call.flag("SkipOsShutdown")
    with lab.books.open():
        changes, ending = [], []
        for instance in _instances(lab, call):
            if instance.state in {"shutting-down", "terminated"}:
                changes.append(_change(instance, instance.state))
                continue
            if instance.termination_protected:
                raise Refusal(
                    "OperationNotPermitted",
                    f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' "
                    "instance attribute and try again.",
                )
            lab.books.put(
                moved(
                    instance,
                    "shutting-down",
                    code="Client.UserInitiatedShutdown",
                    reason="User initiated shutdown",
                    transition=user_initiated(now()),
                )
            )
            changes.append(_change(instance, "shutting-down"))
            ending.append(instance.id)
        call.not_dry()
    for key in ending:
        lab.work.soon(
            lambda key=key: lifecycle.terminate(lab, key, graceful=graceful),  # type: ignore[misc]
            name=f"terminate-{key}",
        )
    return {"TerminatingInstances": changes}
