"""SSM's Run Command: AWS-RunShellScript, carried out in the guests."""

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from drtest.errors import DeadlineError, DrtestError
from drtest.lab import mishaps, refusal
from drtest.lab.call import Call
from drtest.lab.compute import Compute, now
from drtest.lab.nodes import describe_instance_information, managed, matches, page
from drtest.lab.refusal import Refusal
from drtest.lab.resources import Command, Instance, Invocation
from drtest.lab.shell import Ran, Session, Shell
from drtest.lab.wire import iso

LOG = logging.getLogger(__name__)

DOCUMENT = "AWS-RunShellScript"
PLUGIN = "aws:RunShellScript"
MAX_OUTPUT, MAX_ERRORS, MAX_LISTED = 24_000, 8_000, 2_500
"""API_GetCommandInvocation: "The first 24,000 characters written by the plugin to stdout", 8,000 of stderr;
API_CommandPlugin: "up to 2,500 characters"."""

Reply = tuple[int, dict[str, str], bytes]
UNDER_WAY = frozenset({"Pending", "InProgress"})


def action_of(environ: Mapping[str, Any]) -> str:
    """Say which action of SSM a request is."""
    return str(environ.get("HTTP_X_AMZ_TARGET", "")).rpartition(".")[2]


def answer(lab: Compute, *, owner: str, region: str, environ: Mapping[str, Any], body: bytes) -> Reply:
    """Answer one of `ACTIONS`.

    Raises:
        Refusal: as SSM words it.
    """
    try:
        params = json.loads(body or b"{}")
    except ValueError as error:
        raise Refusal("SerializationException", "The request is no JSON document.") from error
    call = Call(action=action_of(environ), owner=owner, region=region, params=params)
    hits = mishaps.before(lab, call, service="ssm")
    found = ACTIONS[call.action](lab, call)
    mishaps.after(lab, call, {}, hits)
    document = json.dumps(found, default=lambda time: time.timestamp())
    return 200, {"Content-Type": "application/x-amz-json-1.1"}, document.encode()


def send_command(lab: Compute, call: Call) -> dict[str, Any]:
    """Run a script in guests, behind the call (API_SendCommand).

    Raises:
        Refusal: ``InvalidDocument``, ``InvalidInstanceId``, ``InvalidParameters``, ``DuplicateInstanceId``.
    """
    call.only(
        "Comment", "DocumentName", "DocumentVersion", "InstanceIds", "Parameters", "Targets", "TimeoutSeconds",
        "MaxConcurrency", "MaxErrors",
    )  # fmt: skip
    if call.text("DocumentName").rpartition("/")[2] != DOCUMENT:
        raise Refusal("InvalidDocument", f"The lab carries out {DOCUMENT}, no other document.")
    parameters: dict[str, list[str]] = call.params.get("Parameters", {})
    if unknown := set(parameters) - {"commands", "workingDirectory", "executionTimeout"}:
        raise Refusal("InvalidParameters", f"{DOCUMENT} has no parameters {sorted(unknown)}.")
    if not any(parameters.get("commands", [])):
        raise Refusal("InvalidParameters", f"{DOCUMENT} needs the parameter commands.")
    if not parameters.get("executionTimeout", ["3600"])[0].isdigit():
        raise Refusal("InvalidParameters", "executionTimeout has to be a number of seconds.")
    timeout = call.number("TimeoutSeconds") or 3600
    if not 30 <= timeout <= 2_592_000:
        raise Refusal("ValidationException", "TimeoutSeconds has to be between 30 and 2592000.")
    nodes = _targets(lab, call)
    with lab.books.open():
        command = Command(
            id=str(uuid.uuid4()),
            owner=call.owner,
            region=call.region,
            number=lab.books.next_number(),
            created=now(),
            document=DOCUMENT,
            comment=call.text("Comment"),
            parameters=parameters,
            timeout=timeout,
            invocations=tuple(Invocation(instance=key) for key in nodes),
        )
        lab.books.put(command)
    for key in nodes:
        lab.work.soon(lambda key=key: _carry_out(lab, command, key), name=f"command-{key}")  # type: ignore[misc]
    return {"Command": _command_view(command)}


def _targets(lab: Compute, call: Call) -> list[str]:
    nodes, ids = managed(lab, call), call.params.get("InstanceIds", [])
    if len(ids) != len(set(ids)):
        raise Refusal("DuplicateInstanceId", "You can't specify a managed node ID in more than once.")
    if lost := [key for key in ids if key not in nodes]:
        raise Refusal(
            "InvalidInstanceId", f"Instances [{lost}] not in a valid state for account {call.owner}"
        )
    if ids:
        return list(ids)
    targets = call.params.get("Targets", [])
    if not targets:
        raise refusal.Refusal("ValidationException", "Specify InstanceIds or Targets.")
    return [key for key, node in nodes.items() if all(matches(node, t["Key"], t["Values"]) for t in targets)]


def _carry_out(lab: Compute, command: Command, instance_id: str) -> None:
    shell, instance = lab.shell, lab.books.find(Instance, instance_id)
    session = None
    if shell is not None and instance is not None and instance.state == "running":
        session = _session(lab, shell, command, instance)
    if session is None:
        gone = instance is None or lab.books.find(Instance, instance_id) is None
        gone = gone or (instance is not None and not lab.hardware.running(instance_id))
        status, details = ("Failed", "Undeliverable") if gone else ("TimedOut", "DeliveryTimedOut")
        _put(lab, command.id, instance_id, status=status, details=details, ended=now())
        return
    limit = float(command.parameters.get("executionTimeout", ["3600"])[0])
    _put(lab, command.id, instance_id, status="InProgress", details="InProgress", started=now())
    try:
        ran = session.run(
            "\n".join(command.parameters["commands"]),
            folder=command.parameters.get("workingDirectory", [""])[0],
            deadline=limit,
        )
    except DrtestError as error:
        LOG.warning("a command on %s: %s", instance_id, error.seen)
        _put(lab, command.id, instance_id, status="Failed", details="Terminated", ended=now())
        return
    finally:
        session.close()
    _note(lab, command.id, instance_id, ran)


def _session(lab: Compute, shell: Shell, command: Command, instance: Instance) -> Session | None:
    until = command.created + timedelta(seconds=command.timeout)
    while (left := (until - now()).total_seconds()) > 0 and lab.hardware.running(instance.id):
        try:
            return shell.log_in(instance.address, deadline=min(left, 10.0))
        except DeadlineError as error:
            LOG.info("%s", error.seen)
            if not lab.work.pause(0.1):
                return None
    return None


def _note(lab: Compute, command_id: str, instance_id: str, ran: Ran) -> None:
    if ran.code is None:
        status, details = "TimedOut", "ExecutionTimedOut"
    else:
        status = details = "Failed" if ran.code else "Success"
    _put(
        lab,
        command_id,
        instance_id,
        status=status,
        details=details,
        code=137 if ran.code is None else ran.code,
        output=ran.output.decode(errors="replace")[:MAX_OUTPUT],
        errors=ran.errors.decode(errors="replace")[:MAX_ERRORS],
        ended=now(),
    )


def _put(lab: Compute, command_id: str, instance_id: str, **changes: Any) -> None:
    with lab.books.open():
        command = lab.books.find(Command, command_id)
        if command is not None:
            changed = tuple(
                replace(one, **changes) if one.instance == instance_id else one for one in command.invocations
            )
            lab.books.put(replace(command, invocations=changed))


def take_up(lab: Compute) -> None:
    """Go on after a restart: what was not begun is sent now; what had begun, nobody has seen the end of."""
    for command in lab.books.all(Command):
        for one in command.invocations:
            if one.status == "Pending":
                task = lambda c=command, key=one.instance: _carry_out(lab, c, key)  # noqa: E731
                lab.work.soon(task, name=f"command-{one.instance}")
            elif one.status == "InProgress":
                _put(lab, command.id, one.instance, status="Failed", details="Terminated", ended=now())


def _command(lab: Compute, call: Call) -> Command:
    key = call.text("CommandId")
    found = lab.books.find(Command, key)
    if found is None or (found.owner, found.region) != (call.owner, call.region):
        raise Refusal("InvalidCommandId", f"The command {key} does not exist.")
    return found


def get_command_invocation(lab: Compute, call: Call) -> dict[str, Any]:
    """Show what became of a command on one instance (API_GetCommandInvocation).

    Raises:
        Refusal: ``InvalidCommandId``, ``InvalidPluginName``, ``InvocationDoesNotExist``, which AWS says for a moment
            of a command that was just sent, too.
    """
    call.only("CommandId", "InstanceId", "PluginName")
    command = _command(lab, call)
    one = next((i for i in command.invocations if i.instance == call.text("InstanceId")), None)
    young = (now() - command.created).total_seconds() < lab.timings.unseen
    if one is None or young:
        raise Refusal(
            "InvocationDoesNotExist", "The command ID and managed node ID you specified didn't match any."
        )
    if call.text("PluginName", PLUGIN) not in {PLUGIN, PLUGIN.replace(":R", ":r")}:
        raise Refusal("InvalidPluginName", f"{command.document} has no step {call.text('PluginName')}.")
    return {
        "CommandId": command.id,
        "InstanceId": one.instance,
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "PluginName": PLUGIN,
        "ResponseCode": one.code,
        "ExecutionStartDateTime": iso(one.started) if one.started else "",
        "ExecutionElapsedTime": _elapsed(one),
        "ExecutionEndDateTime": iso(one.ended) if one.started and one.ended else "",
        "Status": one.status,
        "StatusDetails": one.details,
        "StandardOutputContent": one.output,
        "StandardErrorContent": one.errors,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
    }


def _elapsed(one: Invocation) -> str:
    if one.started is None or one.ended is None:
        return ""
    return f"PT{(one.ended - one.started).total_seconds():.3f}S"


def list_command_invocations(lab: Compute, call: Call) -> dict[str, Any]:
    """List what became of commands, instance by instance (API_ListCommandInvocations)."""
    call.only("CommandId", "Details", "InstanceId", "MaxResults", "NextToken")
    commands = [_command(lab, call)] if call.text("CommandId") else lab.visible(Command, call)
    wanted = call.text("InstanceId")
    found = [(c, one) for c in commands for one in c.invocations if wanted in {"", one.instance}]
    some, token = page(found, call, most=50)
    return {
        "CommandInvocations": [_invocation_view(c, one, details=call.flag("Details")) for c, one in some],
        **token,
    }


def _invocation_view(command: Command, one: Invocation, *, details: bool) -> dict[str, Any]:
    step = {
        "Name": PLUGIN,
        "Status": one.status,
        "StatusDetails": one.details,
        "ResponseCode": one.code,
        **({"ResponseStartDateTime": one.started} if one.started else {}),
        **({"ResponseFinishDateTime": one.ended} if one.ended else {}),
        "Output": (one.output + (f"\n----------ERROR-------\n{one.errors}" if one.errors else ""))[
            :MAX_LISTED
        ],
    }
    return {
        "CommandId": command.id,
        "InstanceId": one.instance,
        "Comment": command.comment,
        "DocumentName": command.document,
        "RequestedDateTime": command.created,
        "Status": one.status,
        "StatusDetails": one.details,
        "CommandPlugins": [step] if details else [],
    }


def list_commands(lab: Compute, call: Call) -> dict[str, Any]:
    """List commands (API_ListCommands)."""
    call.only("CommandId", "InstanceId", "MaxResults", "NextToken")
    commands = [_command(lab, call)] if call.text("CommandId") else lab.visible(Command, call)
    wanted = call.text("InstanceId")
    found = [c for c in commands if not wanted or any(one.instance == wanted for one in c.invocations)]
    some, token = page(found, call, most=50)
    return {"Commands": [_command_view(command) for command in some], **token}


def _command_view(command: Command) -> dict[str, Any]:
    statuses = [one.status for one in command.invocations]
    if any(status in UNDER_WAY for status in statuses):
        status = "Pending" if set(statuses) == {"Pending"} else "InProgress"
    else:
        status = next((worst for worst in ("Failed", "TimedOut") if worst in statuses), "Success")
    expires: datetime = command.created + timedelta(
        seconds=command.timeout + int(command.parameters.get("executionTimeout", ["3600"])[0])
    )
    return {
        "CommandId": command.id,
        "DocumentName": command.document,
        "DocumentVersion": "$DEFAULT",
        "Comment": command.comment,
        "Parameters": command.parameters,
        "InstanceIds": [one.instance for one in command.invocations],
        "RequestedDateTime": command.created,
        "ExpiresAfter": expires,
        "TimeoutSeconds": command.timeout,
        "Status": status,
        "StatusDetails": status,
        "TargetCount": len(statuses),
        "CompletedCount": sum(status not in UNDER_WAY for status in statuses),
        "ErrorCount": sum(one.details in {"Failed", "ExecutionTimedOut"} for one in command.invocations),
        "DeliveryTimedOutCount": sum(one.details == "DeliveryTimedOut" for one in command.invocations),
    }


ACTIONS: Mapping[str, Callable[[Compute, Call], dict[str, Any]]] = {
    "DescribeInstanceInformation": describe_instance_information,
    "GetCommandInvocation": get_command_invocation,
    "ListCommandInvocations": list_command_invocations,
    "ListCommands": list_commands,
    "SendCommand": send_command,
}
"""What of SSM is carried out in the guests."""
