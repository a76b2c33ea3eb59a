"""Public SSH host keys as text: how they are compared, and how an instance shows its own on its console."""

import base64

_CONSOLE_BEGIN = "-----BEGIN SSH HOST KEY KEYS-----"
_CONSOLE_END = "-----END SSH HOST KEY KEYS-----"
_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


def host_keys_from_console(text: str) -> tuple[str, ...]:
    r"""The host keys that cloud-init, or the lab's image, printed on the instance's own console.

    Only the last whole block counts: a console keeps those of earlier boots.

    >>> host_keys_from_console("boot\n-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 QUJD root@x\n"
    ...                        "-----END SSH HOST KEY KEYS-----\nlogin:")
    ('ssh-ed25519 QUJD',)
    """
    blocks = []
    for part in text.split(_CONSOLE_BEGIN)[1:]:
        body, end, _ = part.partition(_CONSOLE_END)
        if end:
            blocks.append(body)
    keys = []
    for line in blocks[-1].splitlines() if blocks else ():
        words = line.split()
        # A console prefixes lines with what logged them: the key begins at its type.
        for place, word in enumerate(words[:-1]):
            if word in _KEY_TYPES and _is_base64(words[place + 1]):
                keys.append(f"{word} {words[place + 1]}")
                break
    return tuple(dict.fromkeys(keys))


def same_key(one: str, other: str) -> bool:
    """Whether two public keys are the same, whatever their comments."""
    return one.split()[:2] == other.split()[:2] and len(one.split()) >= 2


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False
