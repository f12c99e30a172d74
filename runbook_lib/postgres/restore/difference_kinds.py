"""Merge the key-ordered hashes of two copies of a table and classify the differences.

Every plan uses these names, but few runs the arrays. So numpy, which is slow to load, is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import OWN_SCHEMA

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Hashes: TypeAlias = "NDArray[np.int64]"


class Kind(StrEnum):
    """How a row of the live database differs from its copy in the backup."""

    NEW = "new"  # in the live database only
    DELETED = "deleted"  # in the backup only
    CHANGED = "changed"  # user data differs
    FEATURE = "feature"  # only the feature's own columns differ, by more than its backfill wrote
    BACKFILLED = "backfilled"  # only the feature's own columns differ, only by what its backfill wrote
    TOUCHED = "touched"  # only the time of the last write differs


CARRIED = (Kind.NEW, Kind.DELETED, Kind.CHANGED)  # applied by a salvage
EXPORTED = (*CARRIED, Kind.FEATURE)  # worth exporting if not applied


class Collision(Exception):
    """Two keys of a table have the same hash."""


@dataclass(frozen=True)
class Chunk:
    """Adjacent rows in key order, each group of columns hashed; None for an empty group."""

    keys: Hashes
    check: Hashes | None  # a second hash of the key, if `keys` is a hash
    user: Hashes | None
    feature: Hashes | None
    cleared: Hashes | None  # the feature's columns without what its backfill wrote
    touch: Hashes | None

    def part(self, start: int, end: int) -> Chunk:
        """Return the rows from one index up to another."""
        return Chunk(*(None if each is None else each[start:end] for each in self._each()))  # type: ignore[arg-type]

    def at(self, places: NDArray[np.intp]) -> Chunk:
        """Return the rows at some indexes."""
        return Chunk(*(None if each is None else each[places] for each in self._each()))  # type: ignore[arg-type]

    def in_order(self) -> Chunk:
        """Return the rows sorted by key.

        Raises:
            Collision: A key occurs twice.
        """
        import numpy as np

        chunk = self if bool((self.keys[1:] > self.keys[:-1]).all()) else self.at(np.argsort(self.keys))
        if not bool((chunk.keys[1:] > chunk.keys[:-1]).all()):
            raise Collision
        return chunk

    def _each(self) -> tuple[Hashes | None, ...]:
        return self.keys, self.check, self.user, self.feature, self.cleared, self.touch


@dataclass(frozen=True)
class Found:
    """The result for a stretch of two copies: rows in each, and the keys of those that differ."""

    live: int
    backup: int
    keys: dict[Kind, Hashes]


def merged(live: Iterator[Chunk], backup: Iterator[Chunk]) -> Iterator[Found]:
    """Compare two copies of a table, each in key order, holding at most one chunk of each.

    Raises:
        Collision: Two keys have the same hash.
    """
    import numpy as np

    here, there = next(live, None), next(backup, None)
    while here is not None and there is not None:
        last = min(here.keys[-1], there.keys[-1])
        end_here, end_there = (int(np.searchsorted(chunk.keys, last, "right")) for chunk in (here, there))
        yield compared(here.part(0, end_here), there.part(0, end_there))
        here = here.part(end_here, len(here.keys)) if end_here < len(here.keys) else next(live, None)
        there = there.part(end_there, len(there.keys)) if end_there < len(there.keys) else next(backup, None)
    while here is not None:
        yield Found(len(here.keys), 0, {Kind.NEW: here.keys})
        here = next(live, None)
    while there is not None:
        yield Found(0, len(there.keys), {Kind.DELETED: there.keys})
        there = next(backup, None)


def compared(live: Chunk, backup: Chunk) -> Found:
    """Compare the same stretch of two copies row by row.

    Raises:
        Collision: Two keys have the same hash.
    """
    import numpy as np

    keys: dict[Kind, Hashes] = {}
    here, there = live, backup
    if not np.array_equal(live.keys, backup.keys):
        in_both, places = _places(live.keys, backup.keys)
        only_there = np.ones(len(backup.keys), dtype=bool)
        only_there[places] = False
        keys[Kind.NEW] = live.keys[~in_both]
        keys[Kind.DELETED] = backup.keys[only_there]
        here, there = live.at(np.flatnonzero(in_both)), backup.at(places)
    if _differ(here.check, there.check, here.keys).any():
        raise Collision
    user, feature, cleared, touch = (
        _differ(a, b, here.keys)
        for a, b in (
            (here.user, there.user),
            (here.feature, there.feature),
            (here.cleared, there.cleared),
            (here.touch, there.touch),
        )
    )
    own = feature if here.cleared is None else feature & cleared
    keys[Kind.CHANGED] = here.keys[user]
    keys[Kind.FEATURE] = here.keys[own & ~user]
    keys[Kind.BACKFILLED] = here.keys[feature & ~own & ~user]
    keys[Kind.TOUCHED] = here.keys[touch & ~user & ~feature]
    return Found(len(live.keys), len(backup.keys), {kind: found for kind, found in keys.items() if len(found)})


def _places(keys: Hashes, among: Hashes) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return which of some keys are among others, and their indexes there."""
    import numpy as np

    if not len(among):
        return np.zeros(len(keys), dtype=bool), np.empty(0, dtype=np.intp)
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    found = among[places] == keys
    return found, places[found]


def _differ(left: Hashes | None, right: Hashes | None, like: Hashes) -> NDArray[np.bool_]:
    import numpy as np

    return np.zeros(len(like), dtype=bool) if left is None or right is None else left != right


_DEFINITIONS = """
WITH theirs AS (
    SELECT oid FROM pg_namespace
    WHERE nspname NOT IN ('pg_catalog', 'information_schema', %s) AND nspname !~ '^pg_(toast|temp)')
SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure AS name,
       md5(pg_get_functiondef(p.oid)) AS definition
FROM pg_proc p WHERE p.prokind <> 'a' AND p.pronamespace IN (SELECT oid FROM theirs)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT CASE c.relkind WHEN 'm' THEN 'materialized ' ELSE '' END || 'view ' || c.oid::regclass, md5(pg_get_viewdef(c.oid))
FROM pg_class c WHERE c.relkind IN ('v', 'm') AND c.relnamespace IN (SELECT oid FROM theirs)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('trigger %%I of %%s', t.tgname, t.tgrelid::regclass), md5(pg_get_triggerdef(t.oid) || t.tgenabled::text)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgname !~ '^runbook_' AND c.relnamespace IN (SELECT oid FROM theirs)
"""


def defined_otherwise(live: Connection, backup: Connection) -> tuple[str, ...]:
    """Return the kind and name of each object defined differently in the live database and in the backup. Read-only."""
    here, there = (
        {row["name"]: row["definition"] for row in connection.execute(_DEFINITIONS, [OWN_SCHEMA])}
        for connection in (live, backup)
    )
    return tuple(sorted(name for name in here.keys() & there.keys() if here[name] != there[name]))
