"""Before and after of the data that a rollback touches, kept as evidence and shown as pandas tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runbook_lib.context import Context
from runbook_lib.postgres import Connection
from runbook_lib.postgres.catalog import catalog, has_column

if TYPE_CHECKING:
    import pandas as pd

CATALOG_BEFORE = "evidence/catalog-before.json"
CATALOG_RESTORED = "evidence/catalog-restored.json"  # of the staging database, if it replaces the live one
ROWS_BEFORE = "evidence/rows-before.json"


def keep_before(context: Context) -> None:
    """Keep catalog, counts and sample rows from before the first change, unless they are kept already. Read-only."""
    if context.folder.read_json(ROWS_BEFORE) is not None:
        return
    with context.adapters.postgres.connect() as connection:
        context.folder.write_json(CATALOG_BEFORE, catalog(connection, context.target.database.schema_))
        if "backfill" not in context.plan.parts or not is_there(context, connection):  # there is nothing to compare
            context.folder.write_json(ROWS_BEFORE, {})
            return
        statistics = context.statistics(connection)
        kinds, invisible = statistics.kinds_and_invisible(connection)
        context.folder.write_json(
            ROWS_BEFORE,
            {
                "kinds": kinds,
                "invisible": invisible,
                "samples": statistics.samples(connection),
            },
        )


def load() -> None:
    """Import the table library ahead of time, since it takes a while. Pure."""
    import pandas  # noqa: F401


def tables(context: Context) -> dict[str, pd.DataFrame]:
    """Return title -> table: rows by kind, sample rows, data that older code hides, before and after. Read-only."""
    import pandas as pd

    before = context.folder.read_json(ROWS_BEFORE)
    if not before:
        return {}
    key, column = context.plan.database.key, context.plan.database.backfill.name
    with context.adapters.postgres.connect() as connection:
        there, statistics = is_there(context, connection), context.statistics(connection)
        kinds = statistics.kinds(connection) if there else [{"rows": 0} for _ in before["kinds"]]
        keys = [row[key] for row in before["samples"]]
        rows = {row[key]: row for row in statistics.rows(connection, keys)} if there else {}
    gone = "row is gone" if there else "the column is gone"
    counts = pd.DataFrame(before["kinds"]).rename(columns={"rows": "before"})
    counts["after"] = [row["rows"] for row in kinds]
    counts["change"] = counts["after"] - counts["before"]
    samples = pd.DataFrame(
        [
            {
                "kind before": row[statistics.kind_label],
                key: row[key],
                context.plan.database.backfill.source: row[context.plan.database.backfill.source],
                f"{column} before": _short(row[column]),
                f"{column} after": _short(rows[row[key]][column]) if row[key] in rows else gone,
            }
            for row in before["samples"]
        ]
    )
    invisible = pd.DataFrame(
        [{"what older code does not show": what, "rows": number} for what, number in before["invisible"].items()]
    )
    return {
        f"Rows of {context.plan.database.table} by value of {column}": counts[
            ["kind", "before", "after", "change", "shown by old code"]
        ],
        "Sample rows": samples,
        "What users will not see in the old version": invisible,
    }


def is_there(context: Context, connection: Connection) -> bool:
    """Check whether the backfilled column exists. Read-only."""
    database = context.plan.database
    return has_column(connection, database, database.backfill.name)


def _short(value: Any, width: int = 300) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"
