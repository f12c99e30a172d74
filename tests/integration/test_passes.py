"""How many rows are to be written in a range of pages decides by how many passes."""

from collections.abc import Sequence

import pytest
from psycopg import sql

from runbook_lib.config.plan import Plan
from runbook_lib.postgres.backfill import Backfill
from runbook_lib.postgres.backfill_removal.throttle import AT_ONCE, FEW, PASSES, Lines, passes_of
from runbook_lib.postgres.connection import Connection
from runbook_lib.postgres.page_ranges import PageQueue

pytestmark = pytest.mark.newest


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        pytest.param("FALSE", (), id="no row"),
        pytest.param("t.id = 300", AT_ONCE, id="one row"),
        pytest.param("t.id % 20 = 0", AT_ONCE, id="few rows"),
        pytest.param("TRUE", PASSES, id="every row"),
    ],
)
def test_many_rows_take_several_passes_and_few_take_one(
    connection: Connection, plan: Plan, wanted: str, passes: Sequence[Lines]
) -> None:
    backfill = Backfill(plan.database, "test")
    (pages,) = PageQueue(connection, backfill.table).take(1000)

    assert passes_of(connection, backfill, pages, sql.SQL(wanted)) == passes


def test_rows_together_in_the_second_half_of_a_long_range_are_many(connection: Connection, plan: Plan) -> None:
    connection.execute("CREATE TABLE crowded AS SELECT n AS id, repeat('x', 200) AS text FROM generate_series(1, 20000) n")
    backfill = Backfill(plan.database.model_copy(update={"table": "crowded"}), "test")
    (pages,) = PageQueue(connection, backfill.table).take(1000)
    a_page = 20000 / (pages[1] - pages[0])

    assert a_page / 4 > FEW
    assert passes_of(connection, backfill, pages, sql.SQL("t.id > 10000")) == PASSES
