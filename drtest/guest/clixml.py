"""What PowerShell writes to its error stream when nobody reads objects: CLIXML, and the words inside it."""

import re
import xml.etree.ElementTree as ET

_HEAD = b"#< CLIXML"
_TEXT = "{http://schemas.microsoft.com/powershell/2004/04}S"
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_WORDS = ("Error", "Warning")
"""Streams whose words are kept; progress, verbose and information are noise."""


def plain(stderr: bytes) -> bytes:
    r"""The error stream as text: what is CLIXML is read, what is not stays as it is (MS-PSRP 2.2.5).

    >>> plain(b'#< CLIXML\r\n<Objs Version="1.1.0.1" '
    ...       b'xmlns="http://schemas.microsoft.com/powershell/2004/04"><S S="Error">no_x000D__x000A_</S></Objs>')
    b'no\r\n'
    """
    if _HEAD not in stderr:
        return stderr
    before, *parts = stderr.split(_HEAD)
    kept = [before]
    for part in parts:
        end = part.rfind(b"</Objs>")
        if end < 0:
            kept.append(part)
            continue
        end += len(b"</Objs>")
        document, rest = part[:end], part[end:]
        # Several documents may follow one head, when a shell starts another one.
        for one in re.findall(rb"<Objs\b.*?</Objs>", document, re.DOTALL):
            kept.append(_words(one))
        kept.append(rest.lstrip(b"\r\n"))
    return b"".join(kept)


def _words(document: bytes) -> bytes:
    try:
        root = ET.fromstring(document)  # noqa: S314 expat refuses entity bombs, and the bytes are limited
    except ET.ParseError:
        return document
    said = [one.text or "" for one in root.iter(_TEXT) if one.get("S") in _WORDS]
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), "".join(said)).encode("utf-8", "replace")
