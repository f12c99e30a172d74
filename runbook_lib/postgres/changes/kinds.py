"""Lists the kinds of object that are read and changed, in the order of their creation."""

from concurrent.futures import ThreadPoolExecutor

from runbook_lib.postgres import Connection
from runbook_lib.postgres.changes import (
    columns,
    constraints,
    functions,
    indexes,
    other,
    rights,
    schemas,
    sequences,
    tables,
    triggers,
    types,
    views,
)
from runbook_lib.postgres.changes.objects import Catalog, Kind, read

_IN_ORDER: tuple[Kind, ...] = (
    schemas.Schemas(),
    schemas.Extensions(),
    types.Types(),
    tables.Tables(),
    columns.Columns(),
    sequences.Sequences(),
    functions.Functions(),
    constraints.Constraints(),
    indexes.Indexes(),
    views.Views(),
    triggers.Rules(),
    triggers.Triggers(),
    triggers.Policies(),
    schemas.Statistics(),
    rights.Comments(),
    rights.Rights(),
    other.Others(),
)
KINDS = {kind.name: kind for kind in _IN_ORDER}
RANK = {kind.name: place for place, kind in enumerate(_IN_ORDER)}


def catalog_of(connection: Connection) -> Catalog:
    """Read all objects of a database. Read-only."""
    return read(connection, _IN_ORDER)


def catalogs_of(*connections: Connection) -> list[Catalog]:
    """Read all objects of several databases at once. Read-only."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(catalog_of, connections))
