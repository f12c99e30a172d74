"""A disposable fleet: one server with a database a tenant, a small feature rolled out to all, and its fleet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import Any, LiteralString

import yaml

from runbook_lib.rehearsal.database import Database, create_empty_database, dump
from runbook_lib.rehearsal.postgres import Server, binaries

MADE = """
CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL,
    placed timestamptz NOT NULL, total numeric(10, 2) NOT NULL);
INSERT INTO orders SELECT n, 'customer ' || n % 97, '2026-01-01Z'::timestamptz + n * interval '7 minutes', n % 500 + 0.5
FROM generate_series(1, {rows}) n;
"""
RELEASED = """
ALTER TABLE orders ADD COLUMN channel text;
UPDATE orders SET channel = 'web' WHERE id % 2 = 0;
UPDATE orders SET channel = 'phone' WHERE id = 4;
"""  # the last is a user's
PLAN: dict[str, Any] = {
    "feature": "SHOP-77",
    "title": "Order channels",
    "extends": "standard",
    "services": [],
    "backfills": [{"column": "orders.channel", "written": "web", "where": "id % 2 = 0", "cleared": None}],
    "types": {
        "full": {
            "options": {"A": "Remove the values that the backfill wrote"},
            "steps": ["clear-backfill"],
            "checks": ["channels-removed", "only-intended-rows"],
        }
    },
    "checks": {
        "channels-removed": {
            "kind": "sql",
            "title": "No order holds a value that the backfill wrote",
            "sql": "SELECT count(*) FROM orders WHERE channel = 'web'",
            "equals": 0,
        }
    },
}
CONTENTS = """
SELECT md5(string_agg(ROW(id, customer, placed, total, channel)::text, E'\\n' ORDER BY id)),
    md5(string_agg(ROW(id, customer, placed, total, nullif(channel, 'web'))::text, E'\\n' ORDER BY id)) FROM orders
"""
IN_SCHEMA = """
CREATE SCHEMA {0};
CREATE TABLE {0}.orders (LIKE public.orders INCLUDING ALL);
INSERT INTO {0}.orders SELECT * FROM public.orders;
ANALYZE {0}.orders;
"""
SERVICE = "tenants"


@dataclass(frozen=True)
class Tenants:
    """The databases of the tenants, and the folder with plan, template, fleet file and libpq's service file."""

    root: Path
    server: Server
    template: Database
    names: list[str]

    @property
    def file(self) -> Path:
        """The fleet file."""
        return self.root / "fleet.yaml"

    @property
    def service_file(self) -> Path:
        """libpq's service file, which PGSERVICEFILE has to name."""
        return self.root / "services.conf"

    def write(self, **changed: Any) -> Path:
        """Write the fleet file, with some keys changed; returns it."""
        fleet = {
            "name": "tenants",
            "plan": str(self.root / "plan.yaml"),
            "type": "full",
            "template": str(self.root / "template.yaml"),
            "targets": {"list": self.names},
            **changed,
        }
        self.file.write_text(yaml.safe_dump(fleet, sort_keys=False))
        return self.file

    def database(self, name: str) -> Database:
        """The database of a tenant."""
        return Database(self.server, database_of(name), self.template.application, self.template.runbook)

    def execute(self, name: str, statement: LiteralString) -> None:
        """Execute a statement on a tenant's database as the application. Changes that database."""
        database = self.database(name)
        with database.server.connect(**database.parameters(database.application)) as connection:
            connection.execute(statement)

    def contents(self, name: str) -> tuple[str, str]:
        """Return a digest of a tenant's rows as they are, and one of them as a rollback must leave them. Read-only."""
        database = self.database(name)
        with database.server.connect(**database.parameters(database.application)) as connection:
            found = connection.execute(CONTENTS).fetchone()
        assert found
        return found[0], found[1]


def database_of(name: str) -> str:
    """What a tenant's database is called. Pure."""
    return f"shop_{name}"


@contextmanager
def tenants(server: Server, root: Path, count: int, rows: int = 2_000, suffix: str = "_tenants") -> Iterator[Tenants]:
    """So many tenants, each with the feature, until the block ends. Changes the server, and removes what it made there."""
    template = create_empty_database(server, suffix)
    names = [f"t{number:03}" for number in range(1, count + 1)]
    try:
        with template.server.connect(**template.parameters(template.application)) as connection:
            connection.execute(MADE.format(rows=rows))
            _back_up(template, root, names)
            connection.execute(RELEASED)
            connection.execute("ANALYZE orders")
        for name in names:
            template.clone(database_of(name))
        _write(root, template)
        made = Tenants(root, server, template, names)
        made.write()
        yield made
    finally:
        template.drop_all()


def in_schemas(made: Tenants, names: Sequence[str]) -> dict[str, Any]:
    """Give each name a schema of its own in the first tenant's database, with the feature; return the fleet file's keys.

    Changes that database, the template and the backups.
    """
    database = made.database(made.names[0])
    with database.server.connect(**database.parameters(database.application)) as connection:
        for name in names:
            connection.execute(IN_SCHEMA.format(name))
    backup = dump(database, made.root)
    for name in names:
        copyfile(backup, made.root / "backups" / f"{name}.dump")
    backup.unlink()
    template = yaml.safe_load((made.root / "template.yaml").read_text())
    template["database"] |= {"dbname": database.name, "schema": "{target.schema}"}
    (made.root / "template.yaml").write_text(yaml.safe_dump(template, sort_keys=False))
    check = {"sql": "SELECT count(*) FROM {target.schema}.orders WHERE channel = 'web'"}
    over = {
        "backfills": [{**PLAN["backfills"][0], "column": "{target.schema}.orders.channel"}],
        "checks": {"channels-removed": check},
    }
    return {"targets": {"list": [{"name": name, "labels": {"schema": name}} for name in names]}, "per_target": over}


def _back_up(template: Database, root: Path, names: Sequence[str]) -> None:
    """A backup of each tenant from before the feature, in which all tenants are alike."""
    (root / "backups").mkdir()
    backup = dump(template, root)
    for name in names:
        copyfile(backup, root / "backups" / f"{name}.dump")
    backup.unlink()


def _write(root: Path, template: Database) -> None:
    (root / "plan.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    lines = [f"{name}={value}" for name, value in template.parameters(template.runbook).items()]
    (root / "services.conf").touch(mode=0o600)
    (root / "services.conf").write_text("\n".join([f"[{SERVICE}]", *lines, ""]))
    nothing = {name: ["true"] for name in ("list", "running", "stop", "start", "logs")}
    target = {
        "name": "shop-{target.name}",
        "environment": "rehearsal",
        "database": {
            "service": SERVICE,
            "dbname": "shop_{target.name}",
            "application_role": template.application.name,
            "tools": str(template.server.tools or binaries()),
        },
        "backups": {"directory": str(root / "backups"), "pattern": "{target.name}.dump", "oldest_hours": 48},
        "services": {
            "manager": "commands",
            "directory": str(root),
            "timeout": 10,
            "commands": nothing,
            "versions": {},
            "built_from": {},
        },
        "contacts": dict.fromkeys(("On-Call Engineer", "Database Admin", "DevOps Lead", "Product Owner"), "a rehearsal"),
    }
    (root / "template.yaml").write_text(yaml.safe_dump(target, sort_keys=False))
