"""As much of a scenario as could be read, and the problems that rules find in it."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from drtest.scenario.model import Expectation, Load, Part, Scenario, Server
from drtest.scenario.positions import Path
from drtest.words import Capture

Error = Mapping[str, Any]
"""One of pydantic's errors: type, loc, input, ctx."""

_STAND_INS = {
    "size": "1GiB",
    "image": "image",
    "may_stop": True,
    "may_write": True,
    "verdict": "usable",
    "name": "x",
}
"""What stands for a wrong value where one is needed: values that break no rule."""

_P = TypeVar("_P", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One rule that is broken.

    Attributes:
        path: what breaks it.
        message: ``what is wrong; what was meant``.
        key: whether it is the path's key that is wrong, not its value.
        also: the other part that it collides with.
    """

    path: Path
    message: str
    key: bool = False
    also: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """As much of a scenario as could be read: None where a part is wrong in itself.

    Rules ask only about what is known, so that no mistake is told that comes from another one alone.

    Attributes:
        names: the servers' names as they are written, right or wrong.
        expect: the expectations that are right in themselves.
        axes: the same, and of those with a mistake the keys that are right; not fit to match cells.
    """

    names: tuple[str | None, ...]
    servers: tuple[Server | None, ...]
    captures: tuple[Capture | None, ...]
    volumes: tuple[str | None, ...]
    trials: int | None
    expect: tuple[Expectation | None, ...]
    axes: tuple[Expectation | None, ...]
    load: Load | None
    checks: tuple[str | None, ...]
    target: str | None

    @classmethod
    def of(cls, scenario: Scenario) -> "Sketch":
        """A whole scenario."""
        return cls(
            names=tuple(server.name for server in scenario.servers),
            servers=scenario.servers,
            captures=scenario.captures,
            volumes=scenario.volumes,
            trials=scenario.trials,
            expect=scenario.expect,
            axes=scenario.expect,
            load=scenario.load,
            checks=scenario.checks,
            target=scenario.target,
        )

    @property
    def known_servers(self) -> list[tuple[int, Server]]:
        """The servers that are right in themselves, with their place."""
        return [(index, server) for index, server in enumerate(self.servers) if server is not None]

    @property
    def known_captures(self) -> list[tuple[int, Capture]]:
        """The captures that are known, with their place."""
        return [(index, capture) for index, capture in enumerate(self.captures) if capture is not None]


def rough(data: Mapping[str, Any], errors: Iterable[Error], *, empties: Iterable[Path]) -> Sketch:
    """What can be told of a scenario that has mistakes in it.

    A server with a mistake in a detail is still a server: the detail is left out, or stood in for, so that
    the rules can be asked about the rest.

    Args:
        data: the file's values.
        errors: what is wrong with them.
        empties: the paths of values that were left empty.
    """
    paths = [*(tuple(error["loc"]) for error in errors), *empties]
    whole = {path[0] for path in paths if len(path) == 1}
    within: dict[Path, list[Path]] = {}
    for path in paths:
        within.setdefault(path[:2], []).append(path[2:])

    def parts(key: str) -> list[tuple[Any, bool]]:
        values = data.get(key)
        if key in whole or not isinstance(values, list):
            return [(None, False)] if key in whole or key in data else []
        return [(value, (key, index) not in within) for index, value in enumerate(values)]

    def texts(key: str) -> tuple[str | None, ...]:
        return tuple(value if right and isinstance(value, str) else None for value, right in parts(key))

    def mended(key: str, model: type[_P]) -> tuple[_P | None, ...]:
        return tuple(
            _mended(model, value, within.get((key, index), ())) for index, (value, _) in enumerate(parts(key))
        )

    written = (value.get("name") if isinstance(value, dict) else None for value, _ in parts("servers"))
    names = tuple(name if isinstance(name, str) else None for name in written)
    trials, target = data.get("trials", 1), data.get("target")
    return Sketch(
        names=names,
        servers=tuple(
            server and server.model_copy(update={"name": name or server.name})
            for server, name in zip(mended("servers", Server), names, strict=True)
        ),
        captures=tuple(Capture(value) if right else None for value, right in parts("captures")),
        volumes=texts("volumes"),
        trials=trials if "trials" not in whole else None,
        expect=tuple(_read(Expectation, value) if right else None for value, right in parts("expect")),
        axes=mended("expect", Expectation),
        load=_read(Load, data["load"])
        if "load" in data and not any(path[0] == "load" for path in paths if path)
        else None,
        checks=texts("checks"),
        target=target if isinstance(target, str) else None,
    )


def _read(model: type[_P], data: Any) -> _P:
    return model.model_validate(data, by_alias=True, by_name=False)


def _mended(model: type[_P], value: Any, wrong: Iterable[Path]) -> _P | None:
    """A part whose wrong details are left out or stood in for; None where too little is left of it."""
    if not isinstance(value, dict):
        return None
    data = deepcopy(value)
    for path in wrong:
        holder: Any = data
        for part in path[:-1]:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if not path or not isinstance(holder, dict):
            return None
        key = str(path[-1])
        if key in _STAND_INS:
            holder[key] = _STAND_INS[key]
        else:
            holder.pop(key, None)
    try:
        return _read(model, data)
    except ValidationError:
        return None
