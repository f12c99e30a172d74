"""Whether each pooler of the target can be paused, and has the services' connections lead to the target's database."""

from runbook_lib.context import Context
from runbook_lib.postgres.connection import identity
from runbook_lib.postgres.pooler import Pooled, Pooler, sessions_here, system_at
from runbook_lib.results import Found, Status

POOLER = "pooler"  # by which it is waived, to go on without PAUSE
SAFE_MODES = ("transaction", "statement")
WAIVE = "to go on without PAUSE, waive `pooler`"


def can_be_paused(context: Context) -> Found:
    """Look at each pooler that the target names. Read-only.

    Raises:
        AdapterError: One cannot be reached.
    """
    role, found, said = context.target.database.application_role, [], []
    for pooler in context.adapters.poolers:
        if not pooler.may_pause():
            why = "its user is none of admin_users there: it may look, and not PAUSE"
            return Status.FAIL, f"{pooler.service}: {why}"
        shown = pooler.shown(role)
        if missing := [name for name in pooler.databases if name not in shown]:
            return Status.FAIL, f"{pooler.service} has no database {', '.join(missing)}"
        for name in pooler.databases:
            found.append(_database(context, pooler, shown[name]))
            said.append(f"{name} of {pooler.service}: {found[-1][1]}")
    statuses = {status for status, _ in found}
    return next(each for each in (Status.FAIL, Status.UNKNOWN, Status.PASS) if each in statuses), "; ".join(said)


def _database(context: Context, pooler: Pooler, pooled: Pooled) -> Found:
    database = context.adapters.postgres.database
    if pooled.database != database:
        return Status.FAIL, f"it leads to the database {pooled.database}, not to {database}"
    if pooled.disabled or pooled.paused:
        return Status.FAIL, f"it is {'disabled' if pooled.disabled else 'paused'}, and not by this run"
    if pooled.mode not in SAFE_MODES:
        mode = f"its pool mode is {pooled.mode}, in which PAUSE waits until each client has gone"
        return Status.FAIL, f"{mode}: have it pool transactions; or {WAIVE}"
    mode, (status, where) = f"its pool mode is {pooled.mode}", _server(context, pooler, pooled)
    return status, f"{mode}, {where}"


def _server(context: Context, pooler: Pooler, pooled: Pooled) -> Found:
    """Whether it leads to the target's own server: by its sessions there, else by its host and port."""
    with context.adapters.postgres.connect() as connection:
        if here := sessions_here(connection, pooler.sessions(pooled.name)):
            return Status.PASS, f"{len(here)} of its connections are sessions of this server"
        at = f"{pooled.host or 'a Unix socket'}, port {pooled.port}"
        if (pooled.host, pooled.port) == (connection.info.host, connection.info.port):
            return Status.PASS, f"it leads to {at}, as our own connection does"
        ours = identity(connection).system
    system = system_at(context.target.database.service, pooled.host, pooled.port)
    if system == ours:
        return Status.PASS, f"{at} is this server"
    if system:
        return Status.FAIL, f"{at} is another server: {system}, not {ours}"
    unknown = f"it leads to {at}, where no server can be reached from here, and it has no connection open that would show it"
    return Status.UNKNOWN, f"{unknown}: use it once, then look again; or {WAIVE}"
