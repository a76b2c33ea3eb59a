"""What the lab says when it refuses a call: an error code and a message as EC2 gives them."""

from xml.sax.saxutils import escape


class Refusal(Exception):  # noqa: N818 - an answer to a client in EC2's words, no failure of the lab
    """A call that is answered with an error document.

    The codes are those of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html

    Args:
        code: EC2's error code, such as ``InvalidVolume.NotFound``.
        message: the sentence that goes with it.
        status: the HTTP status.
    """

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def document(self, request_id: str) -> bytes:
        """Write the error document of the EC2 query protocol."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Response><Errors><Error><Code>{escape(self.code)}</Code>"
            f"<Message>{escape(self.message)}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        ).encode()


def missing(parameter: str) -> Refusal:
    """Say that a parameter that the call needs is not there."""
    return Refusal("MissingParameter", f"The request must contain the parameter {parameter}")


def bad_value(message: str) -> Refusal:
    """Say that a parameter has a value that it can't have."""
    return Refusal("InvalidParameterValue", message)


def unsupported(what: str) -> Refusal:
    """Say that neither the lab nor moto does this: a clean error, where a wrong answer would mislead."""
    return Refusal("UnsupportedOperation", f"The lab does not carry out {what}.")


def dry_run() -> Refusal:
    """Say that all was well, but that the caller only wanted to know."""
    return Refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", status=412)
