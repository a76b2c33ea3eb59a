"""The poller waits for everybody with few calls, has deadlines, and says what it saw last."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from drtest.cloud.resources import Volume
from drtest.cloud.wait import CancelledError, Poller
from drtest.errors import DeadlineError, EnvironmentFailedError


class Cloud:
    """Volumes that change their state as they are looked at; each script is one state a look."""

    def __init__(self, scripts: dict[str, list[str]]) -> None:
        self.scripts = scripts
        self.calls: list[tuple[str, ...]] = []
        self.fail: list[Exception] = []

    def describe(self, kind: type[Any], ids: Sequence[str]) -> Mapping[str, Any]:
        self.calls.append(tuple(ids))
        if self.fail:
            raise self.fail.pop()
        seen = {}
        for id_ in ids:
            script = self.scripts.get(id_, [])
            state = script.pop(0) if len(script) > 1 else (script or [""])[0]
            if state:
                seen[id_] = Volume(
                    id=id_,
                    state=state,
                    size=1,
                    zone="",
                    snapshot="",
                    attached_to="",
                    attachment="",
                    device="",
                )
        return seen


def poller(cloud: Cloud, **options: Any) -> Poller:
    return Poller(cloud, interval=0.01, **options)


def available(volume: Volume) -> bool:
    return volume.state == "available"


def test_it_gives_what_it_saw_when_all_are_ready() -> None:
    cloud = Cloud({"a": ["creating", "available"], "b": ["creating", "creating", "available"]})
    seen = poller(cloud).until(Volume, ["a", "b"], ready=available, deadline=5, what="volumes")
    assert {id_: volume.state for id_, volume in seen.items()} == {"a": "available", "b": "available"}


def test_what_is_not_seen_yet_is_waited_for() -> None:
    cloud = Cloud({"a": ["", "", "available"]})
    assert poller(cloud).until(Volume, ["a"], ready=available, deadline=5, what="it")


def test_the_deadline_says_what_was_seen_last() -> None:
    cloud = Cloud({"a": ["creating"], "b": []})
    with pytest.raises(DeadlineError, match=r"for the volumes; last seen: a creating, b not found"):
        poller(cloud).until(Volume, ["a", "b"], ready=available, deadline=0.1, what="the volumes")


def test_the_deadline_names_the_apis_last_trouble() -> None:
    cloud = Cloud({})
    cloud.fail = [EnvironmentFailedError("RequestLimitExceeded")] * 1000
    with pytest.raises(DeadlineError, match="RequestLimitExceeded"):
        poller(cloud).until(Volume, ["a"], ready=available, deadline=0.1, what="it")


def test_one_failed_round_is_not_the_end() -> None:
    cloud = Cloud({"a": ["available"]})
    cloud.fail = [EnvironmentFailedError("503")]
    assert poller(cloud).until(Volume, ["a"], ready=available, deadline=5, what="it")


def test_what_never_will_be_ready_ends_the_wait_at_once() -> None:
    def refuse(volume: Volume) -> bool:
        raise EnvironmentFailedError(f"{volume.id} ended in error")

    with pytest.raises(EnvironmentFailedError, match="a ended in error"):
        poller(Cloud({"a": ["error"]})).until(Volume, ["a"], ready=refuse, deadline=60, what="it")


def test_gone_is_not_found_or_deleted() -> None:
    cloud = Cloud({"a": ["in-use", ""], "b": ["deleting", "deleted"]})
    poller(cloud).until_gone(Volume, ["a", "b"], deadline=5, what="them")


def test_a_stopped_run_gives_its_waits_up() -> None:
    with pytest.raises(CancelledError):
        poller(Cloud({"a": ["creating"]}), cancelled=lambda: True).until(
            Volume, ["a"], ready=available, deadline=60, what="it"
        )


def test_many_waits_share_each_call() -> None:
    ids = [f"v{number}" for number in range(20)]
    gate = threading.Event()
    cloud = Cloud({id_: ["creating"] for id_ in ids})
    one = poller(cloud)
    with ThreadPoolExecutor(20) as pool:
        waits = [
            pool.submit(one.until, Volume, [id_], ready=lambda _: gate.is_set(), deadline=20, what="it")
            for id_ in ids
        ]
        while not any(len(call) == 20 for call in cloud.calls):
            assert not any(wait.done() for wait in waits)
        gate.set()
        assert all(wait.result() for wait in waits)
