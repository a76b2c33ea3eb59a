"""SOAP envelopes of WS-Management: what a request asks for, and how an answer looks."""

import base64
import html
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass

from drtest.lab.winrm.faults import FaultError

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
COMMAND_SHELL = SHELL + "/cmd"

_NAMESPACES = (
    f'xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:w="{WSMAN}" xmlns:rsp="{SHELL}" xmlns:x="{TRANSFER}"'
)
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")
OPERATION_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request.

    Attributes:
        action: its action's URI; `verb` is the last word of it.
        message: the client's id of it.
        resource: what kind of thing is asked for.
        shell: the shell that is meant; "" where none is.
        timeout: seconds that it may be held open.
        body: all of the envelope, for what belongs to one verb.
    """

    action: str
    message: str
    resource: str
    shell: str
    timeout: float
    body: ET.Element

    @property
    def verb(self) -> str:
        """``Create``, ``Command``, ``Send``, ``Receive``, ``Signal``, ``Delete``."""
        return self.action.rsplit("/", 1)[-1]

    def text(self, name: str) -> str:
        """The text of a shell element; "" where there is none."""
        return self.body.findtext(f".//{{{SHELL}}}{name}") or ""

    def texts(self, name: str) -> list[str]:
        """The texts of all shell elements of that name."""
        return [one.text or "" for one in self.body.iter(f"{{{SHELL}}}{name}")]

    def command(self) -> str:
        """The command that is meant."""
        return next((one.get("CommandId", "") for one in self.body.iter() if one.get("CommandId")), "")

    def input(self) -> list[tuple[bytes, bool]]:
        """Pieces of input, and whether each is the last."""
        return [
            (base64.b64decode(one.text or ""), (one.get("End") or "").lower() == "true")
            for one in self.body.iter(f"{{{SHELL}}}Stream")
        ]


def read(data: bytes) -> Request:
    """A request from its bytes.

    Raises:
        FaultError: they are none.
    """
    try:
        root = ET.fromstring(data)  # noqa: S314 expat refuses entity bombs, and the length is limited
    except ET.ParseError as problem:
        raise FaultError(2150858766, "s:Sender", f"The request is no SOAP: {problem}") from problem
    shell = next(
        (one.text for one in root.iter(f"{{{WSMAN}}}Selector") if one.get("Name") == "ShellId" and one.text),
        "",
    )
    return Request(
        action=root.findtext(f".//{{{ADDRESSING}}}Action") or "",
        message=root.findtext(f".//{{{ADDRESSING}}}MessageID") or "",
        resource=root.findtext(f".//{{{WSMAN}}}ResourceURI") or "",
        shell=shell,
        timeout=seconds(root.findtext(f".//{{{WSMAN}}}OperationTimeout") or ""),
        body=root,
    )


def seconds(duration: str) -> float:
    """An ISO 8601 duration, as ``PT20S``, in seconds; the default where it is none.

    >>> seconds("PT1M0.5S")
    60.5
    """
    match = _DURATION.fullmatch(duration)
    if not match or not any(match.groups()):
        return OPERATION_TIMEOUT
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def answer(request: Request, body: str) -> bytes:
    """The answer to a request."""
    return _envelope(request.action + "Response", request.message, body)


def fault(message: str, problem: FaultError) -> bytes:
    """A fault as an answer."""
    reason = html.escape(problem.reason)
    body = (
        "<s:Fault><s:Code><s:Value>s:Receiver</s:Value>"
        f"<s:Subcode><s:Value>{problem.subcode}</s:Value></s:Subcode></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{reason}</s:Text></s:Reason>'
        f'<s:Detail><f:WSManFault xmlns:f="{FAULT}" Code="{problem.code}" Machine="stand-in">'
        f"<f:Message>{reason}</f:Message></f:WSManFault></s:Detail></s:Fault>"
    )
    return _envelope(FAULT, message, body)


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    head = (
        f"<a:Action>{html.escape(action)}</a:Action><a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{ADDRESSING}/role/anonymous</a:To><a:RelatesTo>{html.escape(relates_to)}</a:RelatesTo>"
    )
    return (
        f'<s:Envelope xml:lang="en-US" {_NAMESPACES}><s:Header>{head}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    ).encode()


def created(shell: str, *, owner: str) -> str:
    """The body that tells of a new shell."""
    return (
        f"<x:ResourceCreated><a:Address>{ADDRESSING}/role/anonymous</a:Address><a:ReferenceParameters>"
        f"<w:ResourceURI>{COMMAND_SHELL}</w:ResourceURI>"
        f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>'
        "</a:ReferenceParameters></x:ResourceCreated>"
        f"<rsp:Shell><rsp:ShellId>{shell}</rsp:ShellId><rsp:ResourceUri>{COMMAND_SHELL}</rsp:ResourceUri>"
        f"<rsp:Owner>{html.escape(owner)}</rsp:Owner><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut>"
        "<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
    )


def output(command: str, pieces: Mapping[str, bytes], exit_code: int | None) -> str:
    """The body of a Receive: pieces of output, and the exit code where the command has ended."""
    ident = f'"{html.escape(command)}"'
    body = "".join(
        f'<rsp:Stream Name="{name}" CommandId={ident}>{base64.b64encode(data).decode()}</rsp:Stream>'
        for name, data in pieces.items()
        if data
    )
    if exit_code is None:
        state = f'<rsp:CommandState CommandId={ident} State="{SHELL}/CommandState/Running"/>'
    else:
        body += "".join(
            f'<rsp:Stream Name="{name}" CommandId={ident} End="true"/>' for name in ("stdout", "stderr")
        )
        state = (
            f'<rsp:CommandState CommandId={ident} State="{SHELL}/CommandState/Done">'
            f"<rsp:ExitCode>{exit_code & 0xFFFFFFFF}</rsp:ExitCode></rsp:CommandState>"
        )
    return f"<rsp:ReceiveResponse>{body}{state}</rsp:ReceiveResponse>"
