"""The faults of WS-Management, as Windows words and numbers them (MS-WSMV 2.2.4.43; WSManErrorsEvents)."""

TIMED_OUT = 2150858793
"""ERROR_WSMAN_OPERATION_TIMEDOUT: nothing to say within OperationTimeout; clients ask again."""
SHELL_NOT_FOUND = 2150858843
"""ERROR_WSMAN_INVALID_SELECTORS: what the client calls a shell or a command is none (any more)."""
ACTION_NOT_SUPPORTED = 2150858759
SHELL_QUOTA = 2150859173
"""ERROR_WSMAN_QUOTA_MAX_SHELLS_PPU and its neighbours: too many shells, processes or users."""
ENVELOPE_TOO_LARGE = 2150858768
ABORTED = 995
"""ERROR_OPERATION_ABORTED: the shell or the command was ended while its output was waited for."""
ACCESS_DENIED = 5
NOT_SUPPORTED = 2147942450
"""HRESULT_FROM_WIN32(ERROR_NOT_SUPPORTED)."""


class FaultError(Exception):
    """A fault that goes to the client.

    Args:
        code: Windows' number of it.
        subcode: WS-Management's name of it.
        reason: a sentence.
    """

    def __init__(self, code: int, subcode: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.subcode = subcode
        self.reason = reason


def timed_out() -> FaultError:
    """No output came within OperationTimeout."""
    return FaultError(
        TIMED_OUT,
        "w:TimedOut",
        "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
    )


def shell_not_found(what: str) -> FaultError:
    """A shell, or a command in it, is not there."""
    return FaultError(
        SHELL_NOT_FOUND,
        "w:InvalidSelectors",
        f"The request for the Windows Remote Shell with ShellId {what} failed because the shell was not found on the "
        "server. Possible causes are: the specified ShellId is incorrect or the shell no longer exists on the server.",
    )


def aborted() -> FaultError:
    """The command was ended while its output was waited for."""
    return FaultError(
        ABORTED,
        "w:InternalError",
        "The I/O operation has been aborted because of either a thread exit or an application request.",
    )


def too_many_shells(most: int) -> FaultError:
    """The user has all the shells that one may have."""
    return FaultError(
        SHELL_QUOTA,
        "w:QuotaLimit",
        "The WS-Management service cannot process the request. This user is allowed a maximum number of "
        f"{most} concurrent shells, which has been exceeded.",
    )


def not_supported(action: str) -> FaultError:
    """No such action, or nothing of its kind here."""
    return FaultError(ACTION_NOT_SUPPORTED, "w:ActionNotSupported", f"The action {action} is not supported.")


def access_denied() -> FaultError:
    """The user may log in and may not have a shell."""
    return FaultError(ACCESS_DENIED, "w:AccessDenied", "Access is denied.")


def not_windows(what: str) -> FaultError:
    """Anything that is no probe of drtest's: this is a stand-in, and says so."""
    return FaultError(
        NOT_SUPPORTED,
        "w:UnsupportedFeature",
        f"This is not Windows: the lab's stand-in answers drtest's own probes and nothing else. {what}",
    )
