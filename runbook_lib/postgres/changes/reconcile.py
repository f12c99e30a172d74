"""Brings a scratch copy of a database to the expected catalog, and records the statements that did it.

Nothing is dropped by CASCADE. What PostgreSQL refuses to drop or change waits for the next round; its dependents are dropped
meanwhile and recreated. So the server itself decides the order, and every statement has been tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from time import monotonic

import psycopg

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes.kinds import KINDS, RANK, catalog_of
from runbook_lib.postgres.changes.objects import KEY, Catalog, Object, changed, quote

ROUNDS = 60
STAYING = (
    "column",
    "table",
    "schema",
    "extension",
    "type",
    "sequence",
)  # kinds that hold data, never dropped temporarily
WRITING = (
    "INSERT ",
    "UPDATE ",
    "DELETE ",
    "SELECT set_config(",
    "SELECT setval(",
)  # the start of statements that only write rows

_DEPENDENTS = f"""
    SELECT DISTINCT {KEY.format("i")} AS key
    FROM pg_depend d
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid,
        LATERAL pg_identify_object(
            CASE WHEN r.oid IS NULL AND f.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END,
            coalesce(r.ev_class, f.adrelid, d.objid), CASE WHEN f.oid IS NULL THEN d.objsubid ELSE f.adnum END) i
    WHERE d.refclassid = %(class)s::regclass AND d.refobjid = %(oid)s AND d.deptype IN ('n', 'a')
      AND (%(sub)s = 0 OR d.refobjsubid = %(sub)s) AND i.identity IS NOT NULL
      AND NOT (d.classid = d.refclassid AND d.objid = d.refobjid)"""
_CLASSES = {
    "table": "pg_class",
    "column": "pg_class",
    "sequence": "pg_class",
    "view": "pg_class",
    "index": "pg_class",
    "type": "pg_type",
    "function": "pg_proc",
    "constraint": "pg_constraint",
    "schema": "pg_namespace",
    "extension": "pg_extension",
}


class Reconciler:
    """Runs statements on a scratch database, and keeps them in order; `failures` lists what the last round could not do.

    It starts from the given catalog, and reads it again after statements that may have changed it.
    """

    def __init__(self, connection: Connection, catalog: Catalog) -> None:
        self.connection = connection
        self.statements: list[str] = []
        self.seconds = 0.0  # total duration
        self.failures: dict[str, psycopg.Error] = {}
        self._away: set[str] = set()  # dropped temporarily
        self._back: set[str] = set()  # was dropped temporarily, and must not be again
        self._catalog: Catalog | None = catalog  # as it is now; None if a statement may have changed it

    def run(self, *statements: str) -> None:
        """Execute statements, all or none, and record them. Changes the scratch database.

        Raises:
            psycopg.Error: One failed; none took effect.
        """
        begun = monotonic()
        with self.connection.transaction():
            for each in statements:
                self.connection.execute(each)
        self.statements += statements
        self.seconds += monotonic() - begun
        if not all(each.startswith(WRITING) for each in statements):
            self._catalog = None

    def locks(self, before: Catalog) -> list[str]:
        """Build statements that take the transaction's strong locks at once, by earlier table names. Read-only."""
        asked = """SELECT relation::text AS id, bool_or(mode = 'AccessExclusiveLock') AS whole FROM pg_locks
            WHERE pid = pg_backend_pid() AND granted
              AND mode IN ('AccessExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')
            GROUP BY 1 ORDER BY 1"""
        tables, locked = {each.id: each for each in before.of("table")}, dict[str, list[str]]()
        for row in self.connection.execute(asked):
            if table := tables.get(row["id"]):
                locked.setdefault("ACCESS EXCLUSIVE" if row["whole"] else "SHARE ROW EXCLUSIVE", []).append(table.quoted)
        return [f"LOCK TABLE ONLY {', ONLY '.join(names)} IN {mode} MODE" for mode, names in sorted(locked.items())]

    def catalog(self) -> Catalog:
        """Read the present catalog. Read-only."""
        if self._catalog is None:
            self._catalog = catalog_of(self.connection)
        return self._catalog

    def reach(self, expected: Mapping[str, Object], *, whole: bool) -> None:
        """Go as far as possible to the expected catalog, in at most `ROUNDS` rounds. Changes the scratch database.

        Args:
            expected: All expected objects, by key.
            whole: Whether to recreate what was dropped temporarily.
        """
        for _ in range(ROUNDS):
            actual, self.failures = self.catalog(), {}
            steps = list(_steps(actual, Catalog({k: v for k, v in expected.items() if k not in self._away})))
            progress = [self._tried(key, statements) for key, statements in steps]
            if any(progress):
                continue
            if new := self._in_the_way(actual, expected):
                self._away |= new
            elif whole and self._away:
                self._back |= self._away
                self._away = set()
            else:
                return

    def _tried(self, key: str, statements: list[str]) -> bool:
        try:
            self.run(*statements)
        except psycopg.Error as error:
            self.failures[key] = error
            return False
        return True

    def _in_the_way(self, actual: Catalog, expected: Mapping[str, Object]) -> set[str]:
        stuck = [actual[key] for key in self.failures if key in actual.objects]
        hanging = {key for each in stuck for key in dependents(self.connection, each)}
        may = {key for key in hanging if key in actual.objects and key in expected and key.partition(" ")[0] not in STAYING}
        return may - self._away - self._back


def dependents(connection: Connection, each: Object) -> set[str]:
    """Return the keys of an object's dependents. Read-only."""
    if each.kind not in _CLASSES:
        return set()
    oid, _, sub = each.id.partition(":")
    asked = [(_CLASSES[each.kind], int(oid), int(sub or 0))]
    if each.kind == "constraint":
        owned = "SELECT conindid AS oid FROM pg_constraint WHERE oid = %s AND conindid <> 0"
        asked += [("pg_class", row["oid"], 0) for row in connection.execute(owned, [int(oid)])]
    rows = [
        row
        for of, oid_, sub_ in asked
        for row in connection.execute(_DEPENDENTS, {"class": of, "oid": oid_, "sub": sub_}).fetchall()
    ]
    return {row["key"] for row in rows} - {each.key}


def _steps(actual: Catalog, expected: Catalog) -> Iterator[tuple[str, list[str]]]:
    """Yield the necessary statements, drops first, except for objects dropped or created with others."""
    going = [each for key, each in actual.objects.items() if key not in expected.objects]
    for each in sorted(going, key=lambda each: -RANK[each.kind]):
        if not (each.parent in actual.objects and each.parent not in expected.objects):
            yield each.key, KINDS[each.kind].drop(each)
    for key, goal in sorted(expected.objects.items(), key=lambda item: RANK[item[1].kind]):
        found, kind = actual.get(key), KINDS[goal.kind]
        if found is None:
            if not goal.parent or goal.parent in actual.objects or goal.parent not in expected.objects:
                yield key, kind.create(goal, expected)
        elif not found.like(goal):
            if changed(found, goal) == {"owner"}:
                yield key, [f"ALTER {kind.owned(found)} OWNER TO {quote(goal.definition['owner'])}"]
                continue
            altered = kind.alter(_owned_alike(found, goal), goal, expected)
            yield key, kind.drop(found) if altered is None else altered


def _owned_alike(actual: Object, expected: Object) -> Object:
    """Return an object with the expected owner; a separate round sets the owner."""
    if "owner" not in expected.definition:
        return actual
    return replace(actual, definition={**actual.definition, "owner": expected.definition["owner"]})
