"""The pure parts of the comparison of two databases: merging, classing, the ledger, the order of tables, sequences."""

import itertools
import json
import random
from collections.abc import Iterator

import numpy as np
import pytest

from runbook_lib.postgres.restore.diff import Ledger, TableDiff, compare
from runbook_lib.postgres.restore.difference_kinds import CARRIED, Chunk, Collision, Hashes, Kind, compared, merged
from runbook_lib.postgres.restore.shape import ForeignKey, components, order
from runbook_lib.postgres.restore.stream import ahead

GROUPS = ("check", "user", "feature", "cleared", "touch")


def array(values: list[int]) -> Hashes:
    return np.array(values, dtype=np.int64)


def chunk(keys: list[int], **groups: list[int]) -> Chunk:
    return Chunk(array(keys), *(array(groups[name]) if name in groups else None for name in GROUPS))


def found(live: Chunk, backup: Chunk) -> dict[str, list[int]]:
    return {str(kind): keys.tolist() for kind, keys in compared(live, backup).keys.items()}


@pytest.mark.parametrize(
    ("user", "feature", "cleared", "touch", "kind"),
    [
        (0, 0, 0, 0, None),
        (0, 0, 0, 1, "touched"),
        (0, 1, 0, 0, "backfilled"),
        (0, 1, 0, 1, "backfilled"),
        (0, 1, 1, 1, "feature"),
        (0, 0, 1, 0, None),
        (1, 0, 0, 0, "changed"),
        (1, 1, 1, 1, "changed"),
    ],
)
def test_a_row_is_classed_by_its_weightiest_difference(
    user: int, feature: int, cleared: int, touch: int, kind: str | None
) -> None:
    live = chunk([7], user=[user], feature=[feature], cleared=[cleared], touch=[touch])
    backup = chunk([7], user=[0], feature=[0], cleared=[0], touch=[0])

    assert found(live, backup) == ({kind: [7]} if kind else {})


def test_where_option_a_is_unknown_every_difference_is_the_users() -> None:
    assert found(chunk([7], feature=[1]), chunk([7], feature=[0])) == {"feature": [7]}


def test_two_keys_with_the_same_hash_are_noticed_on_one_side_and_across() -> None:
    with pytest.raises(Collision):
        chunk([7, 7]).in_order()
    with pytest.raises(Collision):
        compared(chunk([7], check=[1]), chunk([7], check=[2]))


def test_a_bucket_is_put_in_order_with_all_its_hashes() -> None:
    ordered = chunk([3, -1, 2], user=[30, 10, 20]).in_order()

    assert (ordered.keys.tolist(), ordered.user.tolist() if ordered.user is not None else None) == ([-1, 2, 3], [10, 20, 30])


def pages(rows: dict[int, int], random_: random.Random) -> Iterator[Chunk]:
    keys = sorted(rows)
    while keys:
        size = random_.randint(1, 5)
        yield chunk(keys[:size], user=[rows[key] for key in keys[:size]])
        keys = keys[size:]


@pytest.mark.parametrize("seed", range(30))
def test_merging_pages_of_any_size_finds_what_comparing_whole_tables_finds(seed: int) -> None:
    random_ = random.Random(seed)
    keys = random_.choices(range(-40, 40), k=40)
    live, backup = ({key: random_.randint(0, 1) for key in keys if random_.random() < 0.8} for _ in range(2))
    total: dict[str, list[int]] = {}
    rows = [0, 0]

    for stretch in merged(pages(live, random_), pages(backup, random_)):
        rows = [rows[0] + stretch.live, rows[1] + stretch.backup]
        for kind, places in stretch.keys.items():
            total.setdefault(str(kind), []).extend(places.tolist())

    expected = {
        "new": sorted(live.keys() - backup.keys()),
        "deleted": sorted(backup.keys() - live.keys()),
        "changed": sorted(key for key in live.keys() & backup.keys() if live[key] != backup[key]),
    }
    assert total == {kind: places for kind, places in expected.items() if places}
    assert rows == [len(live), len(backup)]


def test_results_made_ahead_come_in_order_and_failures_are_raised() -> None:
    def items() -> Iterator[int]:
        yield from range(10)
        raise ValueError("at the end")

    with pytest.raises(ValueError, match="at the end"), ahead(items()) as made:
        got = list(itertools.islice(made, 10))
        assert got == list(range(10))
        next(made)


def test_no_more_is_made_ahead_than_requested() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    with ahead(items()) as some:
        assert next(some) == 0

    assert len(made) <= 6


LEDGER = Ledger(
    (
        TableDiff("public.a", ("id",), 10, 9, {Kind.NEW: 3, Kind.CHANGED: 2, Kind.BACKFILLED: 4}, {Kind.NEW: ("7",)}, True),
        TableDiff("public.loose", (), 5, 4, differs=True),
        TableDiff("public.secret", ("id",), unknown="hidden"),
    ),
    tables_only_in_live={"public.later": 1, "public.unread": None},
    large_objects=TableDiff("large objects", unknown="not ours to read"),
)


def test_the_ledger_adds_up() -> None:
    assert LEDGER.totals == {**dict.fromkeys(Kind, 0), Kind.NEW: 3, Kind.CHANGED: 2, Kind.BACKFILLED: 4}
    assert [table.table for table in LEDGER.untold] == ["public.loose"]
    assert LEDGER.unknown == {
        "public.secret": "hidden",
        "large objects": "not ours to read",
        "public.unread": "its rows could not be read",
    }


def test_the_ledger_is_the_same_after_a_time_as_json() -> None:
    again = Ledger.from_json(json.loads(json.dumps(LEDGER.as_json())))

    assert again == LEDGER
    assert again.digest == LEDGER.digest


def test_the_rest_after_a_salvage_is_predicted() -> None:
    after = LEDGER.after({"public.a": {Kind.NEW: 3, Kind.CHANGED: 1}})

    assert after.table("public.a").counts == {Kind.CHANGED: 1, Kind.BACKFILLED: 4}


def test_the_result_is_compared_with_the_prediction() -> None:
    other = Ledger.from_json(LEDGER.as_json() | {"tables_only_in_live": {}})
    more = LEDGER.after({"public.a": {Kind.CHANGED: -1, Kind.BACKFILLED: 4}})

    assert compare(LEDGER, LEDGER) == []
    assert compare(LEDGER, more) == ["public.a: 3 changed, predicted 2", "public.a: 0 backfilled, predicted 4"]
    assert compare(LEDGER, more, CARRIED) == ["public.a: 3 changed, predicted 2"]
    assert len(compare(LEDGER, other)) == 1


def key(table: str, target: str, *, deferrable: bool = False) -> ForeignKey:
    return ForeignKey(f"{table}_{target}", ("s", table), (target,), ("s", target), ("id",), deferrable, False)


def names(*tables: str) -> list[tuple[str, str]]:
    return [("s", table) for table in tables]


def test_tables_that_are_referred_to_come_first() -> None:
    keys = [key("a", "b"), key("b", "c"), key("d", "a"), key("a", "a")]

    assert components(names("a", "b", "c", "d"), keys) == [tuple(names(n)) for n in "cbad"]


def test_tables_that_refer_to_one_another_stay_together() -> None:
    keys = [key("a", "b"), key("b", "a"), key("b", "c"), key("d", "a"), key("e", "f")]

    assert components(names("a", "b", "c", "d"), keys) == [tuple(names(*n)) for n in ("c", "ab", "d")]


def test_a_reference_that_can_be_empty_waits_before_a_deferrable_one() -> None:
    keys = [key("a", "b", deferrable=True), key("b", "c"), key("c", "a")]

    way = order(names("a", "b", "c"), keys, [keys[1]])
    late = order(names("a", "b", "c"), keys, [])

    assert way is not None and (way.tables, way.emptied, way.deferred) == (tuple(names("b", "a", "c")), (keys[1],), ())
    assert late is not None and (late.tables, late.deferred) == (tuple(names("a", "c", "b")), (keys[0],))
    assert order(names("a", "b"), [key("a", "b"), key("b", "a")], []) is None
