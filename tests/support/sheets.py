"""A sheet in the hands of a person: its blocks pasted into psql and a shell, and the state that comes of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from runbook_lib.postgres.catalog import catalog
from runbook_lib.rehearsal.database import Database

BLOCK = re.compile(r"^(`{3,})(sql|sh)\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)
ROWS = sql.SQL("SELECT (to_jsonb(t) - %s::text[])::text AS row FROM {} t ORDER BY 1")
TIMES = ["updated_at", "applied_at"]  # columns that hold when something was done
BEATS = "worker_heartbeats"  # rows that a service writes all the time


def blocks(markdown: str) -> list[tuple[str, str]]:
    """The blocks to be pasted, in order: the language and the text of each."""
    return [(found[2], found[3]) for found in BLOCK.finditer(markdown)]


def in_psql(text: str, tools: str | Path, conninfo: str) -> str:
    """Execute a script as a person does, and return what psql said."""
    command = [str(Path(tools) / "psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file=-", conninfo]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_shell(text: str) -> tuple[int, str]:
    """Paste lines into a shell that finds our tools; the exit code of the last, and the output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stdout + done.stderr


def executed(markdown: str, tools: str | Path, service: str) -> list[tuple[str, int, str]]:
    """Paste each block where it belongs; the first line, the exit code and the output of each."""
    said = []
    for language, text in blocks(markdown):
        code, output = (0, in_psql(text, tools, f"service={service}")) if language == "sql" else in_shell(text)
        said.append((text.partition("\n")[0], code, output))
    return said


def state_of(database: Database, run: str) -> str:
    """The catalog and every row of a database, whenever they were written and whichever run left them."""
    with psycopg.connect(database.conninfo(), row_factory=dict_row) as connection:
        tables = connection.execute(
            "SELECT schemaname AS schema, tablename AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'runbook') ORDER BY 1, 2"
        ).fetchall()
        found = [
            f"{table['schema']}.{table['name']}: {row['row']}"
            for table in tables
            if table["name"] != BEATS
            for row in connection.execute(ROWS.format(sql.Identifier(table["schema"], table["name"])), [TIMES])
        ]
        found += [f"{name}: {definition}" for name, definition in sorted(catalog(connection).items())]
    return "\n".join(found).replace(run, "RUN")
