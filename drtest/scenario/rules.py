"""What has to hold between the parts of a scenario: names, captures, permissions, volumes."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from drtest.scenario.expectations import expectations
from drtest.scenario.model import Server
from drtest.scenario.positions import Path
from drtest.scenario.sketch import Problem, Sketch
from drtest.scenario.spelling import meant, quoted
from drtest.words import SET, Capture, Filesystem, Os

_ONLY_ON = {
    Capture.VSS: (Os.WINDOWS, "the Volume Shadow Copy Service is a part of Windows"),
    Capture.FROZEN: (Os.LINUX, "fsfreeze is a part of Linux"),
}
_FILESYSTEMS = {
    Os.LINUX: (Filesystem.EXT4, Filesystem.XFS, Filesystem.BTRFS),
    Os.WINDOWS: (Filesystem.NTFS,),
}


def problems(sketch: Sketch, *, targets: Collection[str] | None = None) -> Iterator[Problem]:
    """All rules that are broken.

    Args:
        sketch: what is known of the scenario.
        targets: names of the targets that exist; None where they are not to be checked.
    """
    yield from _repeated(sketch)
    yield from _captures(sketch)
    yield from _permissions(sketch)
    for index, server in sketch.known_servers:
        yield from _server_volumes(index, server)
    yield from _same_source(sketch)
    yield from _volumes(sketch)
    yield from expectations(sketch)
    if targets is not None and sketch.target is not None and sketch.target not in targets:
        yield Problem(
            path=("target",),
            message=f"unknown target {quoted(sketch.target)}; {meant(sketch.target, targets)}",
        )


def _repeated(sketch: Sketch) -> Iterator[Problem]:
    lists: Mapping[str, tuple[Sequence[str | None], str]] = {
        "servers": (sketch.names, "two servers are called {0}; give each a name of its own"),
        "captures": (sketch.captures, "{0} is listed twice; take one out"),
        "volumes": (sketch.volumes, "{0} is listed twice; take one out"),
        "checks": (sketch.checks, "{0} is listed twice; take one out"),
    }
    for key, (values, message) in lists.items():
        end = ("name",) if key == "servers" else ()
        first: dict[str, int] = {}
        for index, value in enumerate(values):
            if value is None:
                continue
            if value in first:
                also = (key, first[value], *end)
                yield Problem(path=(key, index, *end), message=message.format(quoted(str(value))), also=also)
            first.setdefault(value, index)


def _captures(sketch: Sketch) -> Iterator[Problem]:
    for index, capture in sketch.known_captures:
        if capture in _ONLY_ON:
            needed, why = _ONLY_ON[capture]
            unable = [server.name for _, server in sketch.known_servers if server.os != needed]
            if unable:
                yield Problem(
                    path=("captures", index),
                    message=f"{capture} can't be done on {_listed(unable)}: {why}; take it out, or give the "
                    f"{needed} servers a scenario of their own",
                )
        launched = [server.name for _, server in sketch.known_servers if server.launch]
        if capture is Capture.EXISTING and launched:
            yield Problem(
                path=("captures", index),
                message=f"existing needs snapshots made earlier, and {_listed(launched)} is launched by the "
                "drill; select a server that exists, or take existing out",
            )


def _permissions(sketch: Sketch) -> Iterator[Problem]:
    captures = {capture for _, capture in sketch.known_captures}
    made = captures - {Capture.EXISTING}
    for index, server in sketch.known_servers:
        if Capture.STOPPED in captures and not server.may_stop:
            yield Problem(
                path=("servers", index),
                message=f"captures has stopped, and server {server.name} may not be stopped; add "
                "may_stop: true to it (it is started again after the capture), or take stopped out",
            )
        if sketch.load and made and not server.may_write:
            yield Problem(
                path=("servers", index),
                message=f"load writes a canary, and nothing may be written to server {server.name}; add "
                "may_write: true to it, or take load out",
            )
    if sketch.load and captures == {Capture.EXISTING} and None not in sketch.captures:
        yield Problem(
            path=("load",),
            key=True,
            message="load runs while a recovery point is made, and existing makes none; take load out",
        )


def _server_volumes(index: int, server: Server) -> Iterator[Problem]:
    if not server.launch:
        return
    at: Path = ("servers", index, "launch", "volumes")
    mounts: dict[str, str] = {}
    for name, volume in server.launch.volumes.items():
        possible = _FILESYSTEMS[server.os]
        if volume.filesystem not in possible:
            yield Problem(
                path=(*at, name, "filesystem"),
                message=f"{volume.filesystem} can't be made on {server.os}; "
                f"write {_listed(possible, last='or')}",
            )
        yield from _mount((*at, name, "mount"), volume.mount, server=server, mounts=mounts)
        mounts.setdefault(volume.mount, name)


def _mount(path: Path, mount: str, *, server: Server, mounts: Mapping[str, str]) -> Iterator[Problem]:
    if server.os is Os.WINDOWS:
        if mount and not (len(mount) == 2 and "D" <= mount[0] <= "Z" and mount[1] == ":"):
            yield Problem(path=path, message=f"mount {quoted(mount)} is no drive; write D: to Z:")
        elif mount and mount in mounts:
            yield Problem(
                path=path,
                message=f"drive {mount} is taken by {mounts[mount]}; give each volume a drive of its own",
            )
        return
    parts = mount.split("/")[1:]
    if not mount.startswith("/") or {"", ".", ".."} & set(parts) or any(c.isspace() for c in mount):
        yield Problem(
            path=path,
            message=f"mount {quoted(mount)} is no directory for a volume; write a path as /srv/data",
        )
    elif mount in mounts:
        yield Problem(
            path=path,
            message=f"mount {mount} is taken by {mounts[mount]}; give each volume a directory of its own",
        )


def _same_source(sketch: Sketch) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, server in sketch.known_servers:
        if not server.select:
            continue
        found = server.select.instance_id or repr(sorted((server.select.tags or {}).items()))
        if found in first:
            yield Problem(
                path=("servers", index, "select"),
                key=True,
                message=f"server {server.name} selects the same instance as another; list it once",
                also=("servers", first[found], "select"),
            )
        first.setdefault(found, index)


def _volumes(sketch: Sketch) -> Iterator[Problem]:
    if None in sketch.servers or not sketch.servers:
        return
    servers = [server for _, server in sketch.known_servers]
    has = dict.fromkeys(name for server in servers for name in server.volume_names)
    for index, volume in enumerate(sketch.volumes):
        if volume == SET and not any(server.data_volumes for server in servers):
            yield Problem(
                path=("volumes", index),
                message="set judges several volumes together, and no server has a data volume; take it out",
            )
        elif volume is not None and volume not in (SET, *has):
            yield Problem(
                path=("volumes", index),
                message=f"no server has a volume {quoted(volume)}; {meant(volume, (*has, SET))}",
            )
    if sketch.volumes and not {None, SET} & set(sketch.volumes):
        for server in servers:
            if set(sketch.volumes) & set(has) and not set(sketch.volumes) & set(server.volume_names):
                yield Problem(
                    path=("volumes",),
                    key=True,
                    message=f"server {server.name} has none of these volumes, so nothing of it is judged; "
                    f"add one of: {', '.join(server.volume_names)}, or take the server out",
                )


def _listed(words: Sequence[str], *, last: str = "and") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
