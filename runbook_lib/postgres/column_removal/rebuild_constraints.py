"""Rebuild constraints and indexes by their definitions: added NOT VALID, then validated.

Each function checks what exists and does the rest, so that a killed run resumes.
"""

from collections.abc import Callable, Iterable

import psycopg
from psycopg import sql

from runbook_lib.config.plan import Database
from runbook_lib.errors import StepFailed
from runbook_lib.postgres import Connection
from runbook_lib.postgres.column_removal.definitions import Constraint, Definitions
from runbook_lib.postgres.indexes import IndexBuilder
from runbook_lib.postgres.round_trip import Statements
from runbook_lib.postgres.text_settings import identifier

UNPROVEN = ("c", "f", "n")  # kinds that may be added NOT VALID

Locked = Callable[[Callable[[Statements], None]], None]  # does work under the table's lock


class ConstraintRebuild:
    """The constraints and indexes of one run's definitions, on the plan's table."""

    def __init__(self, database: Database, run: str, definitions: Definitions) -> None:
        self.database = database
        self.table = identifier(database)
        self.definitions = definitions
        self.stand_ins = {
            column.name: Constraint(
                name=f"runbook_not_null_{number}_{run}",
                kind="c",
                definition=f"CHECK ({sql.Identifier(column.name).as_string()} IS NOT NULL)",
                valid=True,
                comment=None,
                columns=[column.name],
                parent=None,
                parent_columns=[],
                on_delete=" ",
                index=None,
            )
            for number, column in enumerate(definitions.columns)
            if column.not_null and not any(c.kind == "n" and c.columns == [column.name] for c in definitions.constraints)
        }

    @property
    def proven_later(self) -> list[Constraint]:
        """The constraints that are added first and validated later; a CHECK replaces a NOT NULL without a name."""
        return [c for c in self.definitions.constraints if c.kind in UNPROVEN] + list(self.stand_ins.values())

    def add(self, statements: Statements, kinds: Iterable[str] = UNPROVEN, nullable: Iterable[str] = ()) -> None:
        """Add the missing constraints of some kinds, NOT VALID, in one ALTER. Changes the target.

        `nullable` are columns to treat as nullable although they do not have their own names yet.
        """
        parts = [
            sql.SQL("ADD CONSTRAINT {} {}").format(sql.Identifier(c.name), sql.SQL(_not_valid(c.definition)))
            for c in self._missing(statements.connection, nullable)
            if c.kind in kinds
        ]
        if parts:
            statements.write(sql.SQL("ALTER TABLE {} {}").format(self.table, sql.SQL(", ").join(parts)))

    def finish(self, connection: Connection, locked: Locked, builder: IndexBuilder) -> None:
        """Add what is missing, validate it, build the indexes, and restore every definition. Changes the target.

        Raises:
            StepFailed: A row violates a constraint, or an index is invalid after its build.
        """
        connection.execute("SET lock_timeout = 0")  # waiting to validate or build blocks neither reads nor writes
        if self._missing(connection):
            locked(self.add)
        self._prove(connection)
        if self._there(connection) & {c.name for c in self.stand_ins.values()}:
            locked(self._settle_stand_ins)
        for name, definition in self._indexes():
            builder.build(sql.Identifier(self.database.schema_, name), definition)
        unique = [c for c in self.definitions.constraints if c.kind == "u" and c.name not in self._there(connection)]
        if unique:
            locked(lambda statements: self._use_indexes(statements, unique))
        with connection.transaction():
            self._comment(connection)
        connection.execute("RESET lock_timeout")

    def _missing(self, connection: Connection, also: Iterable[str] = ()) -> list[Constraint]:
        there, nullable = self._there(connection), self._nullable(connection) | set(also)
        needless = {c.name for column, c in self.stand_ins.items() if column not in nullable}
        return [c for c in self.proven_later if c.name not in there | needless]

    def _prove(self, connection: Connection) -> None:
        there = self._there(connection, "NOT convalidated")
        for constraint in self.proven_later:
            if constraint.valid and constraint.name in there:
                query = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(self.table, sql.Identifier(constraint.name))
                try:
                    with connection.transaction():
                        connection.execute(query)
                except psycopg.IntegrityError as error:
                    raise StepFailed(
                        f"Rows written since violate {constraint.definition}: {str(error).splitlines()[0]}",
                        where=f"table {self.table.as_string()}, constraint {constraint.name}",
                        state="The columns and their values are restored; this constraint holds for new rows only.",
                        safe_next="Correct those rows; then undo the step again: it resumes from here.",
                    ) from None

    def _settle_stand_ins(self, statements: Statements) -> None:
        there = self._there(statements.connection)
        for column, constraint in self.stand_ins.items():
            if constraint.name in there:  # two statements: with the CHECK in place, SET NOT NULL need not scan the rows
                for action, name in (("ALTER COLUMN {} SET NOT NULL", column), ("DROP CONSTRAINT {}", constraint.name)):
                    statements.write(sql.SQL(f"ALTER TABLE {{}} {action}").format(self.table, sql.Identifier(name)))

    def _indexes(self) -> list[tuple[str, str]]:
        """The names and definitions of the indexes, those of constraints last."""
        plain = [(index.name, index.definition) for index in self.definitions.indexes if not index.of_constraint]
        return plain + [(c.name, c.index) for c in self.definitions.constraints if c.kind == "u" and c.index]

    def _use_indexes(self, statements: Statements, unique: list[Constraint]) -> None:
        for c in unique:
            deferrable = c.definition.partition(")")[2].partition("DEFERRABLE")
            tail = f" {deferrable[1]}{deferrable[2]}" if deferrable[1] else ""
            statements.write(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}{}").format(
                    self.table, sql.SQL(tail), name=sql.Identifier(c.name)
                )
            )

    def _comment(self, connection: Connection) -> None:
        for index in self.definitions.indexes:
            if index.comment:
                name = sql.Identifier(self.database.schema_, index.name)
                connection.execute(sql.SQL("COMMENT ON INDEX {} IS {}").format(name, sql.Literal(index.comment)))
        for c in self.definitions.constraints:
            if c.comment:
                connection.execute(
                    sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                        sql.Identifier(c.name), self.table, sql.Literal(c.comment)
                    )
                )

    def _there(self, connection: Connection, condition: str = "TRUE") -> set[str]:
        query = sql.SQL("SELECT conname AS name FROM pg_constraint WHERE conrelid = {}::regclass AND {}").format(
            sql.Literal(self.table.as_string(connection)), sql.SQL(condition)
        )
        return {row["name"] for row in connection.execute(query)}

    def _nullable(self, connection: Connection) -> set[str]:
        query = sql.SQL("SELECT attname AS name FROM pg_attribute WHERE attrelid = {}::regclass AND NOT attnotnull").format(
            sql.Literal(self.table.as_string(connection))
        )
        return {row["name"] for row in connection.execute(query)}


def _not_valid(definition: str) -> str:
    return definition if definition.endswith(" NOT VALID") else f"{definition} NOT VALID"
