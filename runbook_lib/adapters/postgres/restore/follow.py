"""What belongs to a database's name in people's minds but stays with the database when it is renamed: carried over."""

from dataclasses import dataclass

from psycopg import sql

from runbook_lib.adapters.postgres.connection import Connection, one

# These hold lists of names, which are quoted one by one: they are set from a session that holds the very same text.
LISTS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
}

Grant = tuple[str, str, bool]  # grantee ("" is everybody), privilege, whether it may be granted on
Setting = tuple[str, str, str]  # role ("" is all), name, value


@dataclass(frozen=True)
class Attributes:
    """Owner, limit, comment, grants and settings of a database."""

    owner: str
    limit: int
    comment: str | None
    grants: frozenset[Grant]
    settings: frozenset[Setting]


def attributes(connection: Connection, database: str) -> Attributes:
    """What hangs on a database of this server. Read-only."""
    row = one(
        connection,
        """SELECT oid, pg_get_userbyid(datdba) AS owner, datconnlimit AS limit,
                  shobj_description(oid, 'pg_database') AS comment FROM pg_database WHERE datname = %s""",
        [database],
    )
    grants = connection.execute(
        """SELECT DISTINCT CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee)::text END AS grantee,
                  privilege_type AS privilege, is_grantable AS onward
           FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE oid = %s""",
        [row["oid"]],
    )
    settings = connection.execute(
        """SELECT CASE WHEN setrole = 0 THEN '' ELSE pg_get_userbyid(setrole)::text END AS role, entry
           FROM pg_db_role_setting, unnest(setconfig) entry WHERE setdatabase = %s""",
        [row["oid"]],
    )
    return Attributes(
        owner=row["owner"],
        limit=row["limit"],
        comment=row["comment"],
        grants=frozenset((g["grantee"], g["privilege"], g["onward"]) for g in grants),
        settings=frozenset((s["role"], *s["entry"].split("=", 1)) for s in settings),
    )


def unlike(wanted: Attributes, found: Attributes, *, comment: bool = True) -> list[str]:
    """What of `wanted` another database lacks or has otherwise, a line each. Pure."""
    lines = [
        f"{name} is {getattr(found, name)!r}, not {getattr(wanted, name)!r}"
        for name in ("owner", "limit", *(["comment"] if comment else []))
        if getattr(wanted, name) != getattr(found, name)
    ]
    for name in ("grants", "settings"):
        lines += [f"{name}: {item} is missing" for item in sorted(getattr(wanted, name) - getattr(found, name))]
        lines += [f"{name}: {item} is too much" for item in sorted(getattr(found, name) - getattr(wanted, name))]
    return lines


def follow(connection: Connection, wanted: Attributes, database: str, *, comment: bool = True) -> None:
    """Give a database the limit, grants, settings and comment wanted, where they are not so yet. Changes the target."""
    found, name = attributes(connection, database), sql.Identifier(database)
    if found.limit != wanted.limit:
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, sql.Literal(wanted.limit)))
    if comment and found.comment != wanted.comment:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(wanted.comment)))
    for grantee, privilege, _ in sorted(found.grants - wanted.grants):
        connection.execute(sql.SQL(f"REVOKE {privilege} ON DATABASE {{}} FROM {{}}").format(name, _role(grantee)))
    for grantee, privilege, onward in sorted(wanted.grants - found.grants):
        option = sql.SQL(" WITH GRANT OPTION" if onward else "")
        connection.execute(sql.SQL(f"GRANT {privilege} ON DATABASE {{}} TO {{}}{{}}").format(name, _role(grantee), option))
    for role, setting, _ in sorted(found.settings - wanted.settings):
        _alter(connection, database, role, setting, None)
    for role, setting, value in sorted(wanted.settings - found.settings):
        _alter(connection, database, role, setting, value)


def _alter(connection: Connection, database: str, role: str, setting: str, value: str | None) -> None:
    """Set or reset one setting of a database, for all or for one role, in whose name it is done."""
    whose = sql.SQL("ROLE {} IN DATABASE {}" if role else "DATABASE {1}").format(
        sql.Identifier(role or "-"), sql.Identifier(database)
    )
    name = sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
    with connection.transaction():
        if role:
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        if value is None:
            connection.execute(sql.SQL("ALTER {} RESET {}").format(whose, name))
        elif setting in LISTS:
            connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
            connection.execute(sql.SQL("ALTER {} SET {} FROM CURRENT").format(whose, name))
        else:
            connection.execute(sql.SQL("ALTER {} SET {} TO {}").format(whose, name, sql.Literal(value)))
        if role:
            connection.execute("RESET ROLE")


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name else sql.SQL("PUBLIC")
