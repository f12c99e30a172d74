"""Counts what users wrote that a rollback removes and another deployment of the same migrations does not restore."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.objects import Catalog, Object, quote
from runbook_lib.postgres.changes.rows import SCRATCH, Source, candidates, execute, is_key, load, quoted_list, row_sums
from runbook_lib.postgres.changes.work import MANY

NUMBER = '"number of rows"'  # a name that no column should have


def lost(
    again: Connection,
    live: Connection,
    after: Connection,
    created: Sequence[Object],
    catalogs: tuple[Catalog, Catalog, Catalog],
    key_copies: Mapping[str, Collection[str]],
) -> dict[str, int]:
    """Count values in created columns, and rows in created tables, that are not the migrations' and do not come back.

    Args:
        again: A scratch copy of a rollback's result, on which the migrations ran again; it gets tables of texts.
        live: The state before the rollback.
        after: The state right after the migrations.
        created: The tables and columns that the migrations created, as they are in `live`.
        catalogs: Those of `live`, `after` and `again`; the last is empty if the migrations did not run again.
        key_copies: The columns of such tables that hold keys that the rollback may have made: NULL before, filled again.

    Returns:
        Table or column -> lost rows, where any are lost.
    """
    execute(again, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
    now, made, then = catalogs
    found: dict[str, int] = {}
    tables = {each.key for each in created if each.kind == "table"}
    for place, each in enumerate(created):
        there = now.get(each.key)
        if there is None:
            continue
        if each.kind == "table" and not there.definition["bound"]:
            others = made.get(each.key), then.get(each.key)
            keys = key_copies.get(each.address, ())
            found[each.address] = _rows(again, live, after, there, others, place, now, keys)
        elif each.kind == "column" and each.parent not in tables and not there.definition["generated"]:
            found[each.address] = _values(again, live, after, there, catalogs, place)
    return {name: count for name, count in found.items() if count}


def _rows(
    again: Connection,
    live: Connection,
    after: Connection,
    there: Object,
    others: tuple[Object | None, Object | None],
    place: int,
    now: Catalog,
    keys: Collection[str],
) -> int:
    columns = {each.name: each.name for each in now.parts(there, "column") if not _is_made(each)}
    name = f'{SCRATCH}."lost {place} '
    load(again, f'{name}now"', Source(live, there.rows, columns))
    left = [f'{name}now"']
    for state, connection, found in (("made", after, others[0]), ("redone", again, others[1])):
        if found is not None:
            load(again, f'{name}{state}"', Source(connection, found.rows, columns))
            left.append(f'{name}{state}"')
    listed = quoted_list(columns)
    query = f"SELECT {listed} FROM {left[0]}"
    for other in left[1:]:
        query = f"({query}) EXCEPT ALL (SELECT {listed} FROM {other})"
    count = int(str(execute(again, f"SELECT count(*) AS n FROM ({query}) x")[0]["n"]))
    if keys and others[1]:
        new = f"SELECT {listed} FROM {left[-1]} EXCEPT ALL SELECT {listed} FROM {left[0]}"
        count -= _keyed_again(again, query, new, [each for each in columns if each not in keys], keys)
    return count


def _keyed_again(again: Connection, lost: str, new: str, others: Sequence[str], keys: Collection[str]) -> int:
    """Count the lost rows without a key of a table from before that exist again with one and are otherwise alike."""
    if not others:
        return 0
    listed, empty = quoted_list(others), " AND ".join(f"{quote(each)} IS NULL" for each in keys)
    rows = [
        f"(SELECT {listed}, count(*) AS {NUMBER} FROM ({query}) x WHERE {condition} GROUP BY {listed})"
        for query, condition in ((lost, empty), (new, f"NOT ({empty})"))
    ]
    same = " AND ".join(f"l.{quote(each)} IS NOT DISTINCT FROM n.{quote(each)}" for each in others)
    asked = f"SELECT coalesce(sum(least(l.{NUMBER}, n.{NUMBER})), 0) AS n FROM {rows[0]} l JOIN {rows[1]} n ON {same}"
    return int(str(execute(again, asked)[0]["n"]))


def _is_made(column: Object) -> bool:
    """Report whether the server makes a column's values."""
    of = column.definition
    return bool(of["generated"] or of["identity"] or "nextval(" in (of["default"] or ""))


def _values(
    again: Connection,
    live: Connection,
    after: Connection,
    there: Object,
    catalogs: tuple[Catalog, Catalog, Catalog],
    place: int,
) -> int:
    now, made, then = catalogs
    table, c = now[there.parent], quote(there.name)
    name = f'{SCRATCH}."lost {place} '
    default = there.definition["default"] or ""
    plain = "NULL::text" if not default or "nextval(" in default else f"({default})::text"
    known = [
        (state, connection, catalog)
        for state, connection, catalog in (("made", after, made), ("redone", again, then))
        if catalog.get(there.key)
    ]
    for key in candidates(now, table):
        columns = {each: each for each in dict.fromkeys([*key, there.name])}
        for state, connection, _ in [("now", live, now), *known]:
            execute(again, f'DROP TABLE IF EXISTS {name}{state}"')
            load(again, f'{name}{state}"', Source(connection, table.rows, columns))
        if not is_key(again, [f'{name}{state}"' for state, _, _ in [("now", live, now), *known]], key):
            continue
        joined, alike = "", [f"({plain} IS NOT DISTINCT FROM n.{c})"]
        for state, _, _ in known:
            on = " AND ".join(f"{state}.{quote(k)} = n.{quote(k)}" for k in key)
            joined += f' LEFT JOIN {name}{state}" {state} ON {on}'
            alike.append(f"({state}.{quote(key[0])} IS NOT NULL AND {state}.{c} IS NOT DISTINCT FROM n.{c})")
        query = f'SELECT count(*) AS n FROM {name}now" n{joined} WHERE NOT ({" OR ".join(alike)})'
        return int(str(execute(again, query)[0]["n"]))
    query = f"SELECT count(*) AS n FROM {table.rows} t WHERE t.{c}::text IS DISTINCT FROM {plain}"
    return int(str(execute(live, query)[0]["n"]))


def not_repeated(again: Connection, live: Connection, table: Object, column: str, key: Sequence[str]) -> list[str]:
    """Return the keys of rows whose value in a column another run of the migrations changes.

    Changes the scratch copy's own schema.
    """
    execute(again, f"CREATE SCHEMA IF NOT EXISTS {SCRATCH}")
    columns, names = {each: each for each in (*key, column)}, [f'{SCRATCH}."repeated {state}"' for state in ("now", "again")]
    for name, connection in zip(names, (live, again), strict=True):
        execute(again, f"DROP TABLE IF EXISTS {name}")
        load(again, name, Source(connection, table.rows, columns))
    on = " AND ".join(f"n.{quote(k)} = a.{quote(k)}" for k in key)
    keys, c = ", ".join(f"n.{quote(k)}" for k in key), quote(column)
    both = f"{names[0]} n JOIN {names[1]} a ON {on} WHERE n.{c} IS DISTINCT FROM a.{c}"
    return [str(row["k"]) for row in execute(again, f"SELECT concat_ws(' ', {keys}) AS k FROM {both} LIMIT {MANY}")]


def unstable(one: Connection, other: Connection, catalog: Catalog) -> list[str]:
    """List the columns whose values differ between two runs of the same migrations, as `table.column`. Read-only."""
    found = []
    tables = [each for each in catalog.of("table") if not each.definition["bound"]]
    whole = [row_sums(connection, tables) for connection in (one, other)]
    for table in tables:
        if whole[0][table.address] == whole[1][table.address]:
            continue
        names = [each for each in catalog.parts(table, "column") if not each.definition["generated"]]
        sums = ", ".join(
            f"(SELECT md5(string_agg(v, ',' ORDER BY v)) FROM (SELECT coalesce({quote(each.name)}::text, '\\N') AS v "
            f"FROM {table.rows}) x) AS {quote(each.name)}"
            for each in names
        )
        if not names:
            continue
        both = [execute(connection, f"SELECT {sums}")[0] for connection in (one, other)]
        found += [each.address for each in names if both[0][each.name] != both[1][each.name]]
    return found
