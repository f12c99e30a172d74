"""The step of option B, and what a test asks of its database."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg

from runbook_lib.postgres.catalog import Catalog, catalog
from runbook_lib.postgres.connection import Postgres
from runbook_lib.results import Result
from runbook_lib.steps.remove_columns import RemoveColumns

from .recorded import migration

MODES = ("quarantine", "drop")
Application = psycopg.Connection[Any]


class Killed(BaseException):
    """Ends a step as a SIGKILL would: nothing of it runs on."""


class Journal:
    """What the step reported; `on` acts in the middle of it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.on: Callable[[str, dict[str, Any]], object] = lambda kind, data: None

    def __call__(self, kind: str, **data: Any) -> None:
        self.told.append((kind, data))
        self.on(kind, data)

    @property
    def debts(self) -> set[str]:
        """The debts that are open."""
        owed: set[str] = set()
        for kind, data in self.told:
            if kind == "owed":
                owed.add(data["debt"])
            if kind == "paid":
                owed.discard(data["debt"])
        return owed


def in_mode(step: RemoveColumns, mode: str) -> RemoveColumns:
    """The same step as another process of the run would make it, with that mode chosen."""
    step.context.state = replace(step.context.state, choices={"REMOVAL": mode})
    return RemoveColumns(step.name, step.context)


def naming(step: RemoveColumns, **names: Any) -> RemoveColumns:
    """The step under a plan whose database part names other things."""
    plan = step.context.plan
    step.context.plan = plan.model_copy(update={"database": plan.database.model_copy(update=names)})
    return RemoveColumns(step.name, step.context)


def migrated_by(step: RemoveColumns, tool: str, *versions: str, **keys: Any) -> RemoveColumns:
    """The step under a plan whose migrations are a tool's."""
    step.context.plan = step.context.plan.model_copy(update={"migration": migration(tool, *versions, **keys)})
    return RemoveColumns(step.name, step.context)


def ask(application: Application, query: str) -> list[Any]:
    return application.execute(query).fetchall()  # type: ignore[arg-type]


def rows(application: Application) -> dict[int, dict[str, Any]]:
    return {key: row for key, row in ask(application, "SELECT id, to_jsonb(m) FROM messages m ORDER BY id")}


def shape(postgres: Postgres) -> Catalog:
    with postgres.connect() as connection:
        return catalog(connection)


def summaries(results: list[Result]) -> str:
    return "; ".join(f"{result.status} {result.summary}" for result in results)


def has_own_schema(postgres: Postgres) -> bool:
    with postgres.connect() as connection:
        return connection.execute("SELECT to_regnamespace('runbook') AS it").fetchone() != {"it": None}


def stop_at_progress(kind: str, data: dict[str, Any]) -> None:
    if kind == "progress":
        raise Killed
