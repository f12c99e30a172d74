"""Records in the runbook's own schema of a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from runbook_lib.config.plan.steps import Name
from runbook_lib.config.target import RecordsTarget
from runbook_lib.postgres import rehearsals
from runbook_lib.postgres.connection import Postgres
from runbook_lib.system.processes import Processes


class DatabaseKeys(RecordsTarget):
    """A database whose schema `runbook` keeps the records of rehearsals, a row each."""

    kind: Literal["database"]
    service: Name | None = None
    """Its libpq service; the target's own database if None."""


class DatabaseRecords:
    """Records in a database."""

    Keys = DatabaseKeys

    def __init__(self, keys: DatabaseKeys, service: str, processes: Processes) -> None:
        self.postgres = Postgres(keys.service or service, "records")

    def __str__(self) -> str:
        return f"the schema runbook of the database behind the libpq service {self.postgres.service}"

    def add(self, name: str, text: str) -> None:
        """Add a row; one that is there stays. Changes the runbook's own table only.

        Raises:
            AdapterError: The database cannot be reached, or refuses it.
        """
        with self.postgres.connect() as connection:
            rehearsals.keep(connection, name, text)

    def texts(self) -> Mapping[str, str]:
        """Return every record; none where there is no such table. Read-only.

        Raises:
            AdapterError: The database cannot be reached, or refuses it.
        """
        with self.postgres.connect() as connection:
            return rehearsals.kept(connection)
