"""However a backfill is cleared, the rows end up the same: random lists, three strategies, one result."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as random
from psycopg import sql

from runbook_lib.config.plan import Plan
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.connection import Postgres

URL = "/media/x.svg"
LEGACY = {"type": "image", "url": URL, "source": "legacy_migration"}
ELEMENTS = random.one_of(
    random.sampled_from(
        [
            LEGACY,
            {**LEGACY, "caption": "mine"},
            {**LEGACY, "url": "/media/elsewhere.svg"},
            {"type": "image", "url": URL, "source": "upload"},
            {"source": ["legacy_migration"]},
            {"source": "LEGACY_MIGRATION"},
            {"nested": [LEGACY]},
            {},
        ]
    ),
    random.recursive(
        random.none() | random.booleans() | random.integers(-5, 5) | random.text(alphabet="abé\"'\\ ", max_size=4),
        lambda inner: random.lists(inner, max_size=3) | random.dictionaries(random.sampled_from("ab"), inner, max_size=2),
        max_leaves=4,
    ),
)
VALUES = random.one_of(
    random.none(), random.lists(ELEMENTS, max_size=5), random.sampled_from([LEGACY, "legacy_migration", 7])
)


def expected(value: Any) -> Any:
    """What the rollback promises, said once more in another language."""
    if not isinstance(value, list) or LEGACY not in value:
        return value
    return [element for element in value if element != LEGACY]


@pytest.mark.newest
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=random.lists(VALUES, min_size=1, max_size=40))
def test_swap_batches_and_keys_give_the_same_rows_in_the_same_order(
    postgres: Postgres, application: psycopg.Connection, plan: Plan, values: list[Any]
) -> None:
    found, proved = {}, {}
    for strategy in ("swap", "batched", "keyed"):
        table = f"messages_{strategy}"
        database = plan.database.model_copy(update={"table": table, "indexes": []})
        _fill(application, table, values)

        work = BackfillRemoval(postgres.connect, Backfill(database, strategy), strategy, stopped=True)
        with postgres.connect() as connection:
            Records(work.backfill).prepare(connection)
            work.proof.record(connection)
        work.apply()

        rows = application.execute(sql.SQL("SELECT attachments FROM {} ORDER BY id").format(sql.Identifier(table)))
        found[strategy] = [row[0] for row in rows]
        with postgres.connect() as connection:
            proved[strategy] = work.proof.differences(connection)
            work.proof.forget(connection)
            Records(work.backfill).drop(connection)
    promised = [expected(value) for value in values]
    assert found == {strategy: promised for strategy in found}
    assert proved == {strategy: [] for strategy in found}


def _fill(application: psycopg.Connection, table: str, values: list[Any]) -> None:
    name = sql.Identifier(table)
    application.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
    application.execute(
        sql.SQL(
            """CREATE TABLE {} (id bigint PRIMARY KEY, media_type text, media_url text, updated_at timestamptz,
               attachments jsonb DEFAULT '[]')"""
        ).format(name)
    )
    rows = [(number, URL, None if value is None else json.dumps(value)) for number, value in enumerate(values)]
    with application.cursor() as cursor:
        cursor.executemany(sql.SQL("INSERT INTO {} VALUES (%s, 'image', %s, now(), %s)").format(name), rows)
