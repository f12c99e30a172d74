"""Which kills are tried, in which order, and the verdict on how a run ends after one."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.documents import load_plan
from runbook_lib.journal import GENESIS
from runbook_lib.journal.event import Event
from runbook_lib.rehearsal.chaos.campaign import Ended, judge, summary
from runbook_lib.rehearsal.chaos.picture import Picture
from runbook_lib.rehearsal.chaos.points import TRIALS, VICTIMS, Case, Kill, Point, cases, points, reached
from runbook_lib.rehearsal.workspace import PLAN

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
JOURNAL = [
    ("notebook-started", {}),
    ("checked", {"round": "before:back-up", "name": "room"}),
    ("checked", {"round": "before:back-up", "name": "rights"}),
    ("started", {"step": "back-up"}),
    ("progress", {"step": "back-up"}),
    ("progress", {"step": "back-up"}),
    ("progress", {"step": "back-up"}),
    ("applied", {"step": "back-up"}),
    ("notebook-ended", {}),
]
WANTED: Picture = {"rows of shop public.messages": Counter(["1 a", "2 b"]), "services": Counter(["backend runs: True"])}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(PLAN)


def journal(*, upto: int = len(JOURNAL)) -> list[Event]:
    """Events a second apart."""
    times = [(BEGUN + timedelta(seconds=number)).isoformat() for number in range(upto)]
    return [Event(n, times[n], kind, dict(data), GENESIS, GENESIS) for n, (kind, data) in enumerate(JOURNAL[:upto])]


def found(plan: Plan, name: str = "batched") -> list[Point]:
    return points(name, TRIALS[name], plan, journal())


def ended(picture: Picture, *, well: bool = True) -> Ended:
    return Ended(picture, well, tries=2, kills=[3.0, None], seconds=9.0)


def test_every_event_is_a_point_once_and_of_many_alike_the_first_two(plan: Plan) -> None:
    assert [(point.step, point.kind, point.number, point.gap) for point in found(plan)] == [
        ("", "notebook-started", 1, 1.0),
        ("back-up", "checked before", 1, 1.0),
        ("back-up", "started", 1, 1.0),
        ("back-up", "progress", 1, 1.0),
        ("back-up", "progress", 2, 1.0),
        ("back-up", "applied", 1, 1.0),
        ("", "notebook-ended", 1, 0.0),
    ]


def test_a_point_is_reached_with_its_event_and_not_before(plan: Plan) -> None:
    second_progress = found(plan)[4]

    assert [reached(second_progress, journal(upto=count)) for count in (5, 6, 9)] == [False, True, True]


def test_a_seed_always_gives_the_same_cases_and_another_seed_others(plan: Plan) -> None:
    every = found(plan)

    assert cases(7, every) == cases(7, list(reversed(every)))
    assert cases(7, every) != cases(8, every)
    assert [case.number for case in cases(7, every)] == list(range(1, len(cases(7, every)) + 1))


def test_each_victim_dies_once_at_each_event_and_once_after_it(plan: Plan) -> None:
    every = [kill for case in cases(7, found(plan)) for kill in case.kills if kill.point.gap]
    killed = Counter((str(kill.point), kill.victim, kill.delay > 0) for kill in every)

    assert set(killed.values()) == {1}
    assert len(killed) == 6 * len(VICTIMS) * 2
    assert all(kill.delay < kill.point.gap for kill in every)


def test_the_kills_of_a_case_are_in_the_order_of_the_events(plan: Plan) -> None:
    every = cases(7, found(plan))

    assert all(1 <= len(case.kills) <= 3 for case in every)
    assert [case.kills for case in every] == [tuple(sorted(c.kills, key=lambda kill: kill.point.place)) for c in every]
    assert len({kill.point for case in every[:3] for kill in case.kills}) == 7  # all of them, before one comes again


def test_the_same_kind_of_step_in_two_rollbacks_is_tried_in_one_of_them(plan: Plan) -> None:
    def kills(of: list[Point]) -> int:
        return sum(len(case.kills) for case in cases(7, of))

    together = [*found(plan), *found(plan, "quick")]

    assert kills(together) == kills(found(plan))
    assert {case.trial for case in cases(7, together)} == {"batched", "quick"}


def test_nobody_kills_a_kernel_where_there_is_none(plan: Plan) -> None:
    undone = cases(7, found(plan, "undo-batched"))

    assert {kill.victim for case in undone for kill in case.kills} == {*VICTIMS} - {"kernel"}


@pytest.mark.parametrize(
    ("section", "lines", "lost", "named"),
    [
        pytest.param("rows of shop public.messages", ["1 a", "2 c"], 1, "missing 2 b", id="a row holds something else"),
        pytest.param("rows of shop public.messages", ["1 a"], 1, "missing 2 b", id="a row is gone"),
        pytest.param("rows of shop public.messages", ["1 a", "2 b", "2 b"], 0, "unexpected 2 b", id="a row is twice there"),
        pytest.param("services", ["backend runs: False"], 0, "missing backend runs: True", id="a service is down"),
        pytest.param("processes left", ["4711"], 0, "unexpected 4711", id="a process is left"),
    ],
)
def test_whatever_differs_from_an_uninterrupted_run_is_named(
    plan: Plan, section: str, lines: list[str], lost: int, named: str
) -> None:
    (case, *_) = cases(7, found(plan))

    judged = judge(case, WANTED, ended({**WANTED, section: Counter(lines)}))

    assert (judged.unaided, judged.lost) == (False, lost)
    assert f"{section}: {named}" in judged.differences


def test_the_summary_counts_what_was_killed_and_how_it_ended(plan: Plan) -> None:
    first, second, third, *_ = cases(7, found(plan))
    judged = [
        judge(first, WANTED, ended(WANTED)),
        judge(second, WANTED, ended({**WANTED, "rows of shop public.messages": Counter(["1 a"])})),
        judge(third, WANTED, ended(WANTED, well=False)),
    ]

    said = summary(judged)

    assert "3 cases, 6 kills: 1 unaided, 1 refused, 1 ended otherwise, 1 rows lost or wrong" in said
    assert "median 3.0 s, longest 3.0 s" in said


def test_a_case_names_who_is_killed_where_and_when() -> None:
    point = Point("swap", "back-up", "started", 1, gap=0.5, place=4, role="backup")

    assert str(Case(3, "swap", (Kill(point, "PostgreSQL", 0.25),))) == "3. swap: PostgreSQL at back-up, started 1 + 250 ms"
