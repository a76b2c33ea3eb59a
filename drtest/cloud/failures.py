"""What the API's refusals and silences mean: each as one of drtest's errors, with what to do about it."""

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from drtest.errors import DrtestError, EnvironmentFailedError

THROTTLED = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "EC2ThrottledException"}
)
CAPACITY = frozenset(
    {"InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientVolumeCapacity", "Unsupported"}
)
LOGIN = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "InvalidClientTokenId",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
OURS = frozenset({"InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable"})
"""Codes of the EC2 API Reference, Error codes; the last are trouble on AWS's own side."""


def code_of(error: Exception) -> str:
    """The API's error code; empty where the error is no answer of the API's."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def permanent(error: Exception) -> bool:
    """Whether the same call will be refused whenever it is made: nothing is gained by waiting."""
    return isinstance(error, NoCredentialsError) or code_of(error) in LOGIN | DENIED


def in_doubt(error: Exception) -> bool:
    """Whether a call may have been carried out though it failed: there was no answer, or trouble on the API's side.

    What was refused, as for throttling, was not done (EC2 API Reference, Error codes: client and server errors).
    """
    return not isinstance(error, ClientError) or code_of(error) in OURS


def explained(error: Exception) -> DrtestError | None:
    """An error of the API's, or on the way to it, in drtest's words; None for any other that is not drtest's own."""
    if isinstance(error, DrtestError):
        return error
    if isinstance(error, ClientError):
        said = error.response.get("Error", {}).get("Message", "") or "no message"
        tries = int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) + 1
        often = f" {tries} times" if tries > 1 else ""
        code = code_of(error)
        return EnvironmentFailedError(
            f"The EC2 API refused {error.operation_name}{often}: {said.rstrip('.')} ({code}).",
            remedy=_remedy(code, error.operation_name),
        )
    if isinstance(error, NoCredentialsError):
        return EnvironmentFailedError(
            f"The EC2 API was not asked: {error}.", remedy=_remedy("AuthFailure", "")
        )
    if isinstance(error, BotoCoreError):
        return EnvironmentFailedError(
            f"The EC2 API gave no answer: {error}",
            remedy="See that its endpoint can be reached from here, and run the drill again.",
        )
    return None


def _remedy(code: str, operation: str) -> str:
    if code in THROTTLED:
        return f"Lower limits.drills of the target, or ask AWS for a higher request rate of {operation}."
    if code in CAPACITY:
        return "Run again later, or name another instance type or a subnet in another zone in the target."
    if code.endswith(("LimitExceeded", "QuotaExceeded")):
        return "Ask AWS for a higher quota, or delete what is not needed: `drtest sweep` lists what dead runs left."
    if code in LOGIN:
        return "Log in to AWS again, or look at the profile, role and credentials of the target."
    if code in DENIED:
        return f"Grant ec2:{operation} to the target's identity: drtest/cloud/README.md has the whole policy."
    if code in OURS:
        return "The trouble is on the API's side: see its health page, and run again later."
    if code.endswith(".NotFound"):
        return "Somebody may have deleted it: see CloudTrail."
    return "See this code in the EC2 API Reference, Error codes."
