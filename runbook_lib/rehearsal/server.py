"""A PostgreSQL server on which a rehearsal may make databases and roles."""

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from runbook_lib.rehearsal.errors import StackError

REFERENCES = ("service", "servicefile", "passfile")
COMPUTED = ("sslcertmode",)  # what libpq sets by itself, and tools of older versions do not know
DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server, the connection parameters of its superuser, and where client tools of its version are."""

    parameters: dict[str, str] = field(repr=False)
    tools: Path | None = None

    def conninfo(self, **overrides: str) -> str:
        """Return libpq settings for this server, as the superuser unless overridden. Read-only."""
        return make_conninfo("", **{**self.parameters, **overrides})

    def connect(self, **overrides: str) -> psycopg.Connection:
        """Open an autocommit connection. Raises psycopg.OperationalError when the server does not answer."""
        return psycopg.connect(self.conninfo(**overrides), autocommit=True)

    def measure_statements(self) -> None:
        """Have statements measured where the server was started for it. Changes its maintenance database."""
        with self.connect() as connection:
            if connection.execute("SHOW shared_preload_libraries").fetchone() == ("pg_stat_statements",):
                connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def answers(self) -> bool:
        """Tell whether the superuser gets in. Read-only."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def external_server(conninfo: str) -> Server:
    """Return the server that libpq settings (a service, a host) lead to, as whom they log in. Read-only.

    Raises StackError when it does not answer or when the role may not make databases and roles.
    """
    try:
        with psycopg.connect(conninfo) as connection:
            info = connection.info
            parameters = {name: value for name, value in info.get_parameters().items() if name not in REFERENCES + COMPUTED}
            parameters |= {"host": info.host, "port": str(info.port), "user": info.user, "dbname": info.dbname}
            parameters |= {"password": info.password} if info.password else {}
            major = info.server_version // 10_000
            able = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    except psycopg.OperationalError as error:
        raise StackError(
            f"the server named by REHEARSAL_SERVER does not answer: {error}",
            where="REHEARSAL_SERVER",
            state="nothing was started",
            safe_next="correct REHEARSAL_SERVER and its PGSERVICEFILE or PGPASSFILE, or unset it",
        ) from error
    if able != (True,):
        raise StackError(
            "the role of REHEARSAL_SERVER is no superuser, so it cannot make the rehearsal's roles",
            where="REHEARSAL_SERVER",
            state="nothing was changed there",
            safe_next="name a disposable server and a superuser of it",
        )
    return Server(parameters, debian_programs(major))


def debian_programs(major: int) -> Path | None:
    """Return the directory of the programs of a major version that Debian's packages install, if there. Read-only."""
    directory = DEBIAN / str(major) / "bin"
    return directory if (directory / "pg_dump").exists() else None
