"""Bytes that come in pieces, as lines: for the streams of every transport."""

from drtest.guest.transport import LINE_LIMIT, AnswerError


class Lines:
    """Cuts pieces into lines, and bears no line without end."""

    def __init__(self, *, limit: int = LINE_LIMIT) -> None:
        self._rest = b""
        self._limit = limit

    def add(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes.

        Raises:
            AnswerError: a line is longer than the limit.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise AnswerError(f"a line of more than {self._limit} bytes came: this is no answer of drtest's")
        return lines

    def end(self) -> list[bytes]:
        """What is left at the end: a line without its end is half a line, and still shown."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []
