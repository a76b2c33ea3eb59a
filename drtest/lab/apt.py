"""Where this host gets Debian's packages from, and how: its own sources and apt settings, read."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""The keys of Debian's archive; other distributions have them as a package of the same name, debian-archive-keyring."""


def sources(suite: str, *, etc: Path = Path("/etc")) -> tuple[str, ...]:
    """Say where to get the Debian release ``suite`` from, in one-line style.

    A host that is of this very release says it in its own sources: whoever set it up knows which mirror can be reached
    from there. Other vendors' packages are left out. Any other host is sent to Debian's own mirrors.
    """
    return _own(suite, etc) or (
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite} main",
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {suite}-updates main",
        f"deb [signed-by={KEYRING}] http://deb.debian.org/debian-security {suite}-security main",
    )


def _own(suite: str, etc: Path) -> tuple[str, ...]:
    host = _assignments(etc / "os-release")
    if (host.get("ID"), host.get("VERSION_CODENAME")) != ("debian", suite):
        return ()
    found: list[str] = []
    for path in [etc / "apt/sources.list", *sorted((etc / "apt/sources.list.d").glob("*"))]:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            found += _one_line(text, suite)
        elif path.suffix == ".sources":
            found += _deb822(text, suite)
    has_the_release = any(f" {suite} " in line for line in found)
    return tuple(found) if has_the_release else ()


def options(dump: str) -> tuple[str, ...]:
    """Pick out of ``apt-config dump`` what decides how packages are fetched from here: proxies and dates."""
    kept = re.compile(
        r'^(Acquire::(?:https?|ftp|Check-Valid-Until|Check-Date|Max-FutureTime|Retries|ForceIPv[46])[^ ]*) "(.+)";$'
    )
    return tuple(f'{found[1]} "{found[2]}"' for line in dump.splitlines() if (found := kept.match(line)))


def _assignments(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def _one_line(text: str, suite: str) -> Iterator[str]:
    for line in text.splitlines():
        found = re.match(r"^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if found:
            options = dict(option.split("=", 1) for option in (found[1] or "").split() if "=" in option)
            yield from _debian([found[2]], [found[3]], found[4].split(), options, suite)


def _deb822(text: str, suite: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        uris, suites, components = (
            fields.get(field, "").split() for field in ("uris", "suites", "components")
        )
        yield from _debian(uris, suites, components, fields, suite)


def _debian(
    uris: Iterable[str],
    suites: Iterable[str],
    components: Iterable[str],
    options: Mapping[str, str],
    release: str,
) -> Iterator[str]:
    """Yield the lines for what is Debian's own, by suite, component and key."""
    key = options.get("signed-by", "")
    if "main" not in components or (key and "debian-archive" not in key):
        return
    kept = " ".join(f"{name}={options[name]}" for name in ("signed-by", "trusted") if options.get(name))
    for uri in uris:
        for suite in suites:
            if suite in {release, f"{release}-updates", f"{release}-security"} and not uri.startswith(
                "cdrom:"
            ):
                yield f"deb {f'[{kept}] ' if kept else ''}{uri} {suite} main"
