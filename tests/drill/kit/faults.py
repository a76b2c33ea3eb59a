"""Bad days of the EC2 API: each fault as a client sees it, on the calls that a test chooses."""

import io
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from drtest.lab.endpoint import Endpoint
from drtest.lab.refusal import Refusal

Form = dict[str, str]


class Fault(Enum):
    """What happens to a call (EC2 API Reference, Error codes; Query API request rate)."""

    THROTTLED = Refusal("RequestLimitExceeded", "Request limit exceeded.", status=503)
    INTERNAL = Refusal("InternalError", "An internal error has occurred", status=500)
    UNAVAILABLE = Refusal("Unavailable", "The server is overloaded and can't handle the request.", status=503)
    CAPACITY = Refusal(
        "InsufficientInstanceCapacity",
        "We currently do not have sufficient t3.small capacity in the Availability Zone you requested.",
        status=500,
    )
    DENIED = Refusal("UnauthorizedOperation", "You are not authorized to perform this operation.", status=403)
    EXPIRED = Refusal("ExpiredToken", "The security token included in the request is expired", status=400)
    DROPPED = "the connection is lost before anything was done, as in a timeout"
    LOST = "the action is done, and its response is lost"


@dataclass
class Rule:
    """What befalls calls.

    Attributes:
        faults: the faults, in their order: one a try of a call, and then it passes.
        matches: whether a call, by its action and its form, is one of those.
        again: each call meets all of the faults, and not only the first one that matches.
        forever: the last fault never ends.
    """

    faults: tuple[Fault, ...]
    matches: Callable[[str, Form], bool]
    again: bool = True
    forever: bool = False
    tries: dict[str, int] = field(default_factory=dict)

    def next(self, action: str, form: Form, call: str) -> Fault | None:
        """The fault that befalls this try of a call."""
        if not self.matches(action, form):
            return None
        key = call if self.again else ""
        turn = self.tries[key] = self.tries.get(key, 0) + 1
        if self.forever:
            turn = min(turn, len(self.faults))
        return self.faults[turn - 1] if turn <= len(self.faults) else None


@dataclass
class Weather:
    """What the API does to whom.

    Attributes:
        calls: all calls so far, in their order, those that were not answered included.
        server_of: says whose server a call is about; "" where it can't be told.
        at: what is done, once, as soon as an action is called.
    """

    rules: list[Rule] = field(default_factory=list)
    calls: list[tuple[str, Form]] = field(default_factory=list)
    server_of: Callable[[Form], str] = lambda _: ""
    at: dict[str, Callable[[], object]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(
        self, action: str, *faults: Fault, server: str = "", again: bool = True, forever: bool = False
    ) -> Rule:
        """Let faults befall an action's calls (``*``: all); only those about a server, where one is named."""

        def matches(called: str, form: Form) -> bool:
            return action in ("*", called) and (not server or self.server_of(form) == server)

        rule = Rule(faults, matches, again, forever)
        self.rules.append(rule)
        return rule

    def next(self, action: str, form: Form, call: str) -> Fault | None:
        """The fault that befalls a try of a call, if one does."""
        if act := self.at.pop(action, None):
            act()
        with self.lock:
            self.calls.append((action, form))
            found = (rule.next(action, form, call) for rule in self.rules)
            return next((fault for fault in found if fault), None)

    def actions(self) -> set[str]:
        """The actions called so far."""
        return {action for action, _ in self.calls}


class UnkindEndpoint(Endpoint):
    """The lab's endpoint under a weather."""

    weather: Weather

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form = dict(urllib.parse.parse_qsl(body.decode()))
        action = form.get("Action", "")
        # botocore gives each call an id that its tries share.
        call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")
        match self.weather.next(action, form, call):
            case Fault.DROPPED:
                # The lab's server closes a connection whose answer fails so (werkzeug, connection_dropped).
                raise ConnectionResetError
            case Fault.LOST:
                super().__call__(environ, start_response)
                raise ConnectionResetError
            case Fault(value=Refusal() as refused):
                answer = refused.document("a-request")
                headers = [("Content-Type", "text/xml"), ("Content-Length", str(len(answer)))]
                start_response(f"{refused.status} No", headers)
                return [answer]
            case _:
                return super().__call__(environ, start_response)
