"""Repeated trials: intervals and p values as published, and statements that never say more than was seen."""

from itertools import product
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drtest.scenario.plan import Cell, Expected
from drtest.verdict.evidence import Judgement
from drtest.verdict.statistics import Result, Statement, fisher_exact, groups, statements, wilson
from drtest.words import UNUSABLE, USABLE, Assurance, Capture, Os, Verdict

USABLE_EXPECTED = Expected(text="usable", verdicts=USABLE)
UNUSABLE_EXPECTED = Expected(text="unusable", verdicts=UNUSABLE)
C, R, X, B = Verdict.CONSISTENT, Verdict.RECOVERED, Verdict.INCONSISTENT, Verdict.UNBOOTABLE
UNKNOWN = Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("failures", "n", "low", "high"),
    [
        # Published: R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table X, method 3 (Wilson).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilsons_interval_is_as_published(failures: int, n: int, low: float, high: float) -> None:
    assert wilson(failures, n) == pytest.approx((low, high), abs=5e-5)


def test_no_trial_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_a_range_around_the_rate(trial: tuple[int, int]) -> None:
    failures, n = trial
    low, high = wilson(failures, n)
    assert 0.0 <= low <= high <= 1.0
    if n:
        assert low <= failures / n <= high
        mirrored = wilson(n - failures, n)
        assert isclose(low, 1 - mirrored[1], abs_tol=1e-12)
        assert wilson(failures * 2, n * 2)[1] - wilson(failures * 2, n * 2)[0] < high - low


@pytest.mark.parametrize(
    ("failures", "n", "control_failures", "control_n", "p"),
    [
        (3, 3, 0, 3, 0.05),
        (3, 4, 1, 4, 17 / 70),  # Fisher's own tea: The Design of Experiments, 1935
        (5, 5, 0, 5, 1 / 252),
        (0, 3, 0, 3, 1.0),
        (0, 3, 3, 3, 1.0),
    ],
)
def test_fishers_exact_p_is_as_published(
    failures: int, n: int, control_failures: int, control_n: int, p: float
) -> None:
    seen = fisher_exact(failures=failures, n=n, control_failures=control_failures, control_n=control_n)
    assert seen == pytest.approx(p)


@given(st.integers(0, 12), st.integers(0, 12), st.data())
def test_fishers_p_is_a_probability_and_falls_with_each_failure(
    n: int, control_n: int, data: st.DataObject
) -> None:
    failures = data.draw(st.integers(0, n))
    control = data.draw(st.integers(0, control_n))
    p = fisher_exact(failures=failures, n=n, control_failures=control, control_n=control_n)
    assert 0.0 < p <= 1.0
    if failures < n:
        more = fisher_exact(failures=failures + 1, n=n, control_failures=control, control_n=control_n)
        assert more <= p + 1e-12


@pytest.mark.parametrize(("failures", "n"), [(4, 3), (-1, 3)])
def test_more_failures_than_trials_are_refused(failures: int, n: int) -> None:
    with pytest.raises(ValueError, match="failures"):
        wilson(failures, n)
    with pytest.raises(ValueError, match="failures"):
        fisher_exact(failures=failures, n=n, control_failures=0, control_n=1)


class Trials:
    """Cells and judgements of one scenario."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.judgements: list[Judgement] = []

    def arm(
        self, volume: str, capture: Capture, *verdicts: Verdict | None, expected: Expected = USABLE_EXPECTED
    ) -> "Trials":
        for trial, verdict in enumerate(verdicts, start=1):
            server, own = volume.split("/")
            cell = Cell(
                id=f"{volume}/{capture}/{trial}",
                scenario="w",
                server=server,
                os=Os.WINDOWS,
                volume=own,
                capture=capture,
                trial=trial,
                expected=expected,
            )
            self.cells.append(cell)
            if verdict is not None:
                self.judgements.append(
                    Judgement(
                        cell=cell.id,
                        scenario="w",
                        verdict=verdict,
                        assurance=Assurance.CANARY,
                        met=verdict in expected.verdicts,
                        reason="",
                    )
                )
        return self

    def root(self, running: tuple[Verdict | None, ...], stopped: tuple[Verdict | None, ...]) -> Statement:
        self.arm("win/root", Capture.RUNNING, *running, expected=UNUSABLE_EXPECTED)
        self.arm("win/root", Capture.STOPPED, *stopped)
        return statements(self.cells, self.judgements)[0]


def test_a_group_counts_decided_trials_only() -> None:
    trials = Trials().arm("win/root", Capture.RUNNING, X, B, C, UNKNOWN, Verdict.UNREACHABLE, None)
    (group,) = groups(trials.cells, trials.judgements)
    assert (group.n, group.failures, group.undecided) == (3, 2, 3)
    assert group.interval == wilson(2, 3)


def test_unusable_is_reproduced_by_a_failure_and_a_sound_control() -> None:
    statement = Trials().root((X, B, X), (C, C, R))
    assert statement.result is Result.REPRODUCED
    assert statement.p == pytest.approx(0.05)
    assert statement.text == (
        "Windows root volume (win/root): snapshots taken while the server runs are unusable"
    )
    assert statement.sentence == (
        "3 of 3 snapshots taken running were unusable (rate 44 % to 100 %); of those taken stopped, 0 of 3 "
        "(Fisher's exact p = 0.05, one-sided)"
    )


def test_one_failure_of_many_reproduces_it() -> None:
    assert Trials().root((C, C, X), (C, C, C)).result is Result.REPRODUCED


def test_no_failure_is_not_reproduced_and_says_what_that_is_worth() -> None:
    statement = Trials().root((R, R, R), (C, C, C))
    assert statement.result is Result.NOT_REPRODUCED
    assert (
        "the finding was not reproduced: no failure in 3 snapshots taken running, rate below 56 %"
        in statement.sentence
    )


@pytest.mark.parametrize(
    ("running", "stopped", "why"),
    [
        (
            (X, X, X),
            (C, X, C),
            "of those taken stopped, 1 of 3; the control (stopped) must not fail, and does",
        ),
        ((X, X, UNKNOWN), (C, C, C), "1 trial came to no verdict"),
        ((X, X, X), (C, None, C), "1 trial came to no verdict"),
        ((R, R, R), (C, UNKNOWN, C), "1 trial came to no verdict"),
        ((X, X, X), (), "there is no control to compare with"),
    ],
)
def test_a_failing_control_and_missing_trials_are_inconclusive(
    running: tuple[Verdict, ...], stopped: tuple[Verdict, ...], why: str
) -> None:
    statement = Trials().root(running, stopped)
    assert statement.result is Result.INCONCLUSIVE
    assert why in statement.sentence


def test_an_arm_without_a_verdict_says_so() -> None:
    statement = Trials().root((UNKNOWN, UNKNOWN), (C, C))
    assert (statement.result, statement.p) == (Result.INCONCLUSIVE, None)
    assert statement.sentence == (
        "no snapshot taken running came to a verdict; of those taken stopped, 0 of 2; 2 trials came to no verdict"
    )


def whole(running: tuple[Verdict, ...], stopped: tuple[Verdict, ...] = (C, C, C)) -> Statement:
    trials = Trials()
    trials.root((X, X, X), (C, C, C))
    trials.arm("win/data", Capture.RUNNING, *running).arm("win/data", Capture.STOPPED, *stopped)
    return statements(trials.cells, trials.judgements)[1]


def test_not_affected_is_never_called_safe() -> None:
    statement = whole((R, R, R))
    assert statement.text == (
        "Windows data volume (win/data): snapshots taken while the server runs are not affected"
    )
    assert statement.result is Result.REPRODUCED
    assert (
        statement.sentence
        == "no failure in 3 snapshots taken running, rate below 56 %; of those taken stopped, 0 of 3"
    )
    assert statement.p is None
    assert "safe" not in statement.sentence


def test_not_affected_falls_with_one_failure() -> None:
    assert whole((R, X, R)).result is Result.NOT_REPRODUCED


@pytest.mark.parametrize(("running", "stopped"), [((R, R, UNKNOWN), (C, C, C)), ((R, R, R), (C, X, C))])
def test_not_affected_needs_all_its_trials_and_a_sound_control(
    running: tuple[Verdict, ...], stopped: tuple[Verdict, ...]
) -> None:
    assert whole(running, stopped).result is Result.INCONCLUSIVE


def test_a_scenario_that_expects_all_to_be_usable_makes_no_statement() -> None:
    trials = Trials().arm("lin/root", Capture.RUNNING, R, X)
    assert statements(trials.cells, trials.judgements) == ()


def test_the_four_statements_of_the_finding_come_out_of_its_scenario() -> None:
    trials = Trials()
    for volume, capture in product(
        ("win/root", "win/data", "lin/root", "lin/data"), (Capture.RUNNING, Capture.STOPPED)
    ):
        hit = volume == "win/root" and capture is Capture.RUNNING
        expected = UNUSABLE_EXPECTED if hit else USABLE_EXPECTED
        trials.arm(volume, capture, *((X if hit else R,) * 3), expected=expected)
    made = statements(trials.cells, trials.judgements)
    assert [(one.server, one.volume, str(one.result)) for one in made] == [
        ("win", "root", "reproduced"),
        ("win", "data", "reproduced"),
        ("lin", "root", "reproduced"),
        ("lin", "data", "reproduced"),
    ]
    assert all(len(one.cells) == 6 for one in made)
