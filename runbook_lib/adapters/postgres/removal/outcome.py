"""What a catalog must look like after a removal: pure."""

from runbook_lib.adapters.postgres.catalog import Catalog, differences
from runbook_lib.adapters.postgres.removal.records import Record, Stage
from runbook_lib.plan import Database


def left_over(now: Catalog, database: Database, record: Record | None) -> list[str]:
    """What should be gone and is not, or was set aside and is not there, a line each; without a record all must be gone."""
    table = f"{database.schema_}.{database.table}"
    lines = [f"the column {name} is still there" for name in database.columns if f"column {table} {name}" in now]
    if record and record.asides and record.stage is Stage.REMOVED:
        for name, other in record.asides.items():
            if f"column {table} {other}" not in now:
                lines.append(f"the column {name}, set aside as {other}, is not there")
        return lines
    for kind, names in (("index", database.indexes), ("constraint", database.constraints)):
        lines += [f"the {kind} {name} is still there" for name in names if f"{kind} {table} {name}" in now]
    return lines


def changed(before: Catalog, now: Catalog, database: Database, record: Record | None) -> list[str]:
    """What differs between two catalogs besides what the plan names and what was set aside, a line each."""
    return differences(_rest(before, database, record), _rest(now, database, record))


def _rest(catalog: Catalog, database: Database, record: Record | None) -> Catalog:
    table = f"{database.schema_}.{database.table}"
    columns = [*database.columns, *(record.asides.values() if record else ())]
    constraints = (
        [*database.constraints, *(c.name for c in record.definitions.constraints if record)]
        if record
        else database.constraints
    )
    named = (("column", columns), ("index", database.indexes), ("constraint", constraints))
    left_out = {f"{kind} {table} {name}" for kind, names in named for name in names}
    return {name: definition for name, definition in catalog.items() if name not in left_out}
