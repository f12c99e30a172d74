"""Measure the removal of a plain column's backfill with a backup's values, next to one UPDATE … FROM the same values."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from large_table import Bench
from psycopg import sql

from runbook_lib.config.plan import ScalarBackfill
from runbook_lib.postgres.backfill_kinds import backfill_terms
from runbook_lib.postgres.backfill_removal.guard import Records
from runbook_lib.postgres.backfill_removal.removal import BackfillRemoval
from runbook_lib.postgres.connection import Postgres
from runbook_lib.postgres.scalar_backfill import ScalarTerms
from runbook_lib.rehearsal.database import Database

SPEC = ScalarBackfill.model_validate(
    {
        "column": "orders.fee",
        "written": {"sql": "round(price * 0.02, 2)"},
        "where": "state = 'open'",
        "cleared": "from_backup",
    }
)
BACKUP, INDEX = "orders_before", "orders_fee"
# A third of the rows is written; of their earlier values one in so many is not NULL, as of the other rows'.
MIXES = {"few earlier values": 20, "an earlier value in each row": 1}
RIVAL = "UPDATE orders o SET fee = b.fee FROM orders_before b WHERE b.id = o.id AND o.state = 'open'"
MADE = """CREATE TABLE orders_before AS
SELECT n::bigint AS id, (CASE WHEN n / 3 % {every} = 0 THEN n % 97 END)::numeric(10, 2) AS fee
FROM generate_series(1, {rows}) n;
ALTER TABLE orders_before ADD PRIMARY KEY (id);
CREATE TABLE orders (id bigint, customer int, state text, note text, price numeric(10, 2), fee numeric(10, 2));
INSERT INTO orders SELECT id, id % 1000, s.state, 'Some things, number ' || id, s.price,
    CASE WHEN s.state = 'open' THEN round(s.price * 0.02, 2) ELSE fee END
FROM orders_before, LATERAL (SELECT CASE WHEN id % 3 = 0 THEN 'open' ELSE 'shut' END, id % 10000 + 1) s(state, price)
ORDER BY id;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE INDEX orders_fee ON orders (fee);
GRANT ALL ON orders, orders_before TO PUBLIC"""


@contextmanager
def filled(bench: Bench, every: int) -> Iterator[None]:
    """Make the table as the job left it, in the database to copy."""
    database = bench.original
    with database.server.connect(**database.parameters(database.application)) as connection:
        made = sql.SQL(MADE).format(every=sql.Literal(every), rows=sql.Literal(bench.rows)).as_string(connection)
        for statement in made.split(";\n"):
            connection.execute(statement.encode())
        connection.execute("VACUUM (ANALYZE) orders, orders_before")
    yield
    with database.server.connect(**database.parameters(database.application)) as connection:
        connection.execute("DROP TABLE orders, orders_before")


def terms(postgres: Postgres) -> ScalarTerms:
    """Return the backfill, with its earlier values loaded."""
    with postgres.connect() as connection:
        plain = backfill_terms(connection, SPEC, None, "bench")
        assert isinstance(plain, ScalarTerms)
        Records(plain).prepare(connection)
        return plain.keep_prior(connection, sql.Identifier("public", BACKUP), plain.prior)


def taken_back(postgres: Postgres, backfill: ScalarTerms, strategy: str) -> None:
    """Remove the backfill as the step does, with the proof of the whole table."""
    work = BackfillRemoval(postgres.connect, backfill, strategy, stopped=True)
    with postgres.connect() as connection:
        work.proof.record(connection)
    work.apply([INDEX])
    with postgres.connect() as connection:
        found = work.proof.differences(connection)
        assert found == [], found


def seconds(bench: Bench, strategy: str) -> float:
    """Return the seconds of one strategy, or of the rival's UPDATE, on a fresh copy."""
    with bench.copy() as (database, postgres):
        known = terms(postgres)
        with database.server.connect() as connection:
            connection.execute("CHECKPOINT")
        begun = time.monotonic()
        if strategy == "plan":
            _update(database)
        else:
            taken_back(postgres, known, strategy)
        return time.monotonic() - begun


def _update(database: Database) -> None:
    with database.server.connect(**database.parameters(database.application)) as connection:
        connection.execute(RIVAL)


def medians(bench: Bench, rounds: int) -> Iterator[tuple[str, str, float, float]]:
    """Return, by mix of earlier values and strategy, our median and that of one UPDATE … FROM."""
    for mix, every in MIXES.items():
        with filled(bench, every):
            walls: dict[str, list[float]] = {"plan": [], "swap": [], "batched": []}
            for _ in range(rounds):
                for name, found in walls.items():
                    found.append(seconds(bench, name))
            rival = median(walls["plan"])
            yield from ((mix, name, median(walls[name]), rival) for name in ("swap", "batched"))
