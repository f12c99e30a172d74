"""Each pooler of the target can be paused, and leads the services' connections to the target's database."""

from runbook_lib.context import Context
from runbook_lib.postgres.connection import identity
from runbook_lib.postgres.lock_budget import LONGEST_PAUSE_MS
from runbook_lib.postgres.pooler import Pooled, Pooler, Shown, sessions_here, system_at
from runbook_lib.results import Found, Status, worst

POOLER = "pooler"  # the name that waives it, to continue without PAUSE
SAFE_MODES = ("transaction", "statement")
WAIVE = "to continue without PAUSE, waive `pooler`"


def can_be_paused(context: Context) -> Found:
    """Look at each pooler that the target names. Read-only.

    Raises:
        AdapterError: A pooler cannot be reached.
    """
    found = [look for pooler in context.adapters.poolers for look in _looks(context, pooler)]
    return worst(status for status, _ in found), "; ".join(why for _, why in found)


def _looks(context: Context, pooler: Pooler) -> list[Found]:
    if why := pooler.cannot_pause():
        return [(Status.FAIL, f"{pooler.name}: {why}")]
    shown = pooler.shown(context.target.database.application_role)
    if why := _unfit(pooler, shown):
        return [(Status.FAIL, f"{pooler.name}: {why}")]
    if missing := [name for name in pooler.databases if name not in shown.databases]:
        wildcard = "one behind its wildcard (*) appears after its first client"
        return [(Status.FAIL, f"{pooler.name} has no database {', '.join(missing)}; {wildcard}")]
    found = []
    for name, pooled in shown.databases.items():
        status, why = _database(context, pooler, pooled) if name in pooler.databases else _other(context, pooler, pooled)
        found += [(status, f"{name} of {pooler.name}: {why}")] if why else []
    return found


def _unfit(pooler: Pooler, shown: Shown) -> str:
    """Return why a pooler cannot be used, whatever the database; "" if it can. Pure."""
    if not shown.reconnects:
        return f"it is older than 1.10 and has no RECONNECT, which closes connections of stopped services; {WAIVE}"
    if shown.shares_port:
        return (
            "several processes may listen at its address (so_reuseport), and only one would be paused: name each by the "
            f"host of its own Unix socket; or {WAIVE}"
        )
    longest = pooler.limit + LONGEST_PAUSE_MS / 1000
    if 0 < shown.patience < longest:
        return (
            f"its clients get an error after {shown.patience:g} s (query_wait_timeout, client_login_timeout), but may have "
            f"to wait for {longest:g} s: raise that, or lower limit_ms; or {WAIVE}"
        )
    return ""


def _other(context: Context, pooler: Pooler, pooled: Pooled) -> Found:
    """Check whether a pool outside the target leads to the same database, and is in use."""
    if pooled.database != context.adapters.postgres.database or _server(context, pooler, pooled)[0] is not Status.PASS:
        return Status.PASS, ""
    if pooled.clients:
        why = f"its {pooled.clients} clients use the same database and would not wait: name it under `databases`"
        return Status.FAIL, f"{why}; or {WAIVE}"
    return Status.PASS, "it leads to the same database and has no client now; later clients are not paused"


def _database(context: Context, pooler: Pooler, pooled: Pooled) -> Found:
    database = context.adapters.postgres.database
    if pooled.database != database:
        return Status.FAIL, f"it leads to the database {pooled.database}, not to {database}"
    if pooled.disabled or pooled.paused:
        return Status.FAIL, f"it is {'disabled' if pooled.disabled else 'paused'}, but not by this run"
    if pooled.mode not in SAFE_MODES:
        mode = f"its pool mode is {pooled.mode}, in which PAUSE waits until each client disconnects"
        return Status.FAIL, f"{mode}: set it to pool transactions; or {WAIVE}"
    mode, (status, where) = f"its pool mode is {pooled.mode}", _server(context, pooler, pooled)
    return status, f"{mode}, {where}"


def _server(context: Context, pooler: Pooler, pooled: Pooled) -> Found:
    """Check that it leads to the target's own server: by its sessions there, else by its host and port."""
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
    unknown = f"it leads to {at}, which cannot be reached from here, and has no open connection that would show the server"
    return Status.UNKNOWN, f"{unknown}: use it once, then check again; or {WAIVE}"
