"""What a reader of a fleet sees first, also where it has many targets."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from runbook_lib.fleet import FleetState, board
from runbook_lib.fleet.answers import Lost, answers
from runbook_lib.fleet.chart import waves
from runbook_lib.fleet.standing import Standing, Word

BEGAN = datetime(2026, 3, 1, 3, tzinfo=UTC)
PATH = "outputs/fleet"


def state_of(standings: Mapping[str, Standing], **changed: object) -> FleetState:
    """A fleet in two waves, whose preview of all targets that were not held back is approved."""
    names = [*standings]
    targets = {name: {"run": f"runs/{name}/run", "server": "db1", "labels": {}} for name in names}
    opened = {"fleet": "shops", "plan": "SHOP-77", "targets": targets, "waves": [names[:1], names[1:]]}
    digests = {name: "d" for name, each in standings.items() if each.word != "held back"}
    known = {"previews": {"digest": digests}, "approved": "digest", "walked": True, "action": "apply", **changed}
    return FleetState(opened, BEGAN, **known)  # type: ignore[arg-type]


def one(name: str, word: Word, *, begin: float = 0, took: float = 2.0, reason: str = "", pending: int = 0) -> Standing:
    touched = word not in ("held back", "previewed")
    began = BEGAN + timedelta(seconds=begin) if touched else None
    ended = began + timedelta(seconds=took) if began and word != "begun" else None
    return Standing(
        name, word, of=1, reason=reason, began=began, ended=ended, pending=pending, touched=touched, done=int(touched)
    )


def large() -> dict[str, Standing]:
    """200 targets: one failed, one held back, one slow, one under way, all others verified."""
    made = {f"t{n:03}": one(f"t{n:03}", "verified", begin=n, took=2.0 + n % 3) for n in range(200)}
    made["t050"] = one("t050", "failed", begin=50, reason="the check failed")
    made["t060"] = one("t060", "held back", reason="no such column")
    made["t070"] = one("t070", "verified", begin=70, took=90)
    made["t080"] = one("t080", "begun", begin=80)
    return made


def mixed() -> dict[str, Standing]:
    return {
        "a": one("a", "verified", pending=2),
        "b": one("b", "failed", begin=3, reason="channels-removed: FAIL"),
        "c": one("c", "held back", reason="no such column"),
        "d": one("d", "previewed"),
    }


def test_a_chart_of_many_targets_names_the_outliers_alone() -> None:
    standings = large()

    svg = waves(state_of(standings), standings, BEGAN + timedelta(seconds=210))

    shown = [name for name in standings if f">{name}</text>" in svg]
    assert shown == ["t050", "t060", "t070", "t080"]
    assert "195 verified" in svg and "Wave 2: 199 targets" in svg
    assert svg.count("<rect") == 199  # all but the one that was held back
    height = float(svg.partition('height="')[2].partition('"')[0])
    assert height < 1100


def test_a_board_of_many_targets_shows_those_that_need_attention() -> None:
    standings = large()

    assert {row[0] for row in board.board_rows(state_of(standings), standings)} == {"t050", "t060", "t080"}
    assert board.headline(state_of(standings), standings)[0] == "shops: 197 verified, 1 failed, 1 held back, 1 begun"


def test_a_board_of_few_targets_has_a_row_for_each() -> None:
    standings = mixed()

    assert [row[0] for row in board.board_rows(state_of(standings), standings)] == [*standings]


def test_a_mixed_fleet_names_how_to_finish_and_how_to_undo() -> None:
    standings = mixed()

    assert [command for _, command in board.ways(PATH, state_of(standings), standings)] == [
        f"runbook fleet run {PATH}",
        f"runbook fleet run {PATH} --retry-failed",
        f"runbook fleet plan {PATH}",
        f"runbook fleet undo {PATH}",
    ]


def test_an_undo_that_ended_within_its_first_target_can_be_resumed() -> None:
    standings = {"a": one("a", "verified"), "b": one("b", "begun")}
    state = state_of(standings, action="undo", undo="undo", undone_by={"a": "1", "b": "2"})

    assert board.ways(PATH, state, standings)[0] == ("To resume the undo", f"runbook fleet undo {PATH} --approve undo")


def test_a_newer_preview_is_named_with_its_digest() -> None:
    standings = mixed() | {"c": one("c", "previewed")}
    state = state_of(standings, previews={"digest": {"a": "d", "b": "d", "d": "d"}, "newer": {"c": "e", "d": "d"}})

    assert f"runbook fleet run {PATH} --approve newer" in board.ways_on(PATH, state, standings)


def test_a_fleet_under_way_can_be_paused_or_aborted() -> None:
    standings = mixed()

    assert [command for _, command in board.ways(PATH, state_of(standings), standings, "pid 7")] == [
        f"runbook fleet pause {PATH}",
        f"runbook fleet abort {PATH}",
    ]


def test_losses_are_added_up_and_named_for_each_target() -> None:
    standings = mixed()
    lost = {"a": Lost(("3 rows of orders",)), "b": Lost(("4 rows of orders",), ("the step did not finish",))}

    found = {each.question: each for each in answers(PATH, state_of(standings), standings, lost)}

    about = found["What was lost?"]
    assert about.sentences == [
        "Counted, in all, on 2 targets: 7 rows of orders.",
        "Not known on 1 target; see “All targets”.",
    ]
    assert about.items == ["a: 3 rows of orders", "b: 4 rows of orders; not known: the step did not finish"]


def test_a_target_whose_losses_cannot_be_read_is_not_lossless() -> None:
    standings = mixed()

    (about,) = [e for e in answers(PATH, state_of(standings), standings, {"a": Lost()}) if e.question == "What was lost?"]

    assert about.sentences == ["Not known on 1 target; see “All targets”."]


def test_what_is_pending_has_cleanup_and_each_reason() -> None:
    standings = mixed()

    about = answers(PATH, state_of(standings), standings, {})[-1]

    text = " ".join([*about.sentences, *about.items, *(command for _, command in about.commands)])
    for part in (
        "1 target failed: b.",
        "b: failed: channels-removed: FAIL",
        "1 target held back: c.",
        "Pending cleanup: 2 items on 1 target.",
        f"runbook purge {PATH}/runs/a/run",
    ):
        assert part in text


def test_only_a_fleet_that_is_verified_everywhere_is_over() -> None:
    done = {name: one(name, "verified") for name in ("a", "b")}
    waived = done | {"b": one("b", "waived")}
    over = {"status": "finished", "summary": "all"}

    said = [
        answers(PATH, state_of(found, outcome=outcome), found, {})[1].sentences[0].split(".")[0]
        for found, outcome in ((done, over), (waived, over), (mixed(), None))
    ]

    assert said == ["Yes", "Not quite", "No"]


def test_while_a_fleet_is_rolled_back_its_end_is_expected() -> None:
    standings = {**large(), "t190": one("t190", "previewed")}
    state = state_of(standings)

    expected = board.pace(state, standings)
    over = answers(PATH, state, standings, {}, held_by="pid 7")[1]

    assert re.fullmatch(r"\d+\.\d targets a minute; 2 left, about \d+(\.\d)? s, until 03:0\d:\d\d UTC", expected)
    assert expected in board.headline(state, standings)
    assert over.sentences == ["No. A process acts in this fleet now (pid 7).", f"{expected}."]
    assert board.pace(state_of(standings, outcome={"status": "mixed", "summary": ""}), standings) == ""
