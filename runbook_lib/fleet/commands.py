"""`runbook fleet`: one plan, many targets. Each command is one library call."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runbook_lib.config.installed import require_extra
from runbook_lib.config.loading import ROOT
from runbook_lib.documents import load_plan
from runbook_lib.errors import PreconditionError, RunbookError
from runbook_lib.fleet import fetched
from runbook_lib.journal.control import Request
from runbook_lib.redaction import redact_values
from runbook_lib.ui import terminal

if TYPE_CHECKING:
    from runbook_lib.fleet import FleetRun
    from runbook_lib.fleet.engines import Engine

CODES = (
    "Exit codes: 0 finished or undone, 1 declined, 2 wrong use, 3 stopped by failures or refused, 4 mixed or unknown. "
    "A preview ends with 0 where it can be approved for at least one target."
)


def _with_example(command: str) -> str:
    """An epilog: a command to type, and the exit codes."""
    return f"\b\nExample:\n  $ {command}\n\n{CODES}"


def _path(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    return fetched.require_path(value)


fleet_argument = click.argument("folder", metavar="FLEET", callback=_path)
read_argument = click.argument("folder", metavar="FLEET")  # a path or a URL
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
operator_option = click.option("--operator", default="", help="Your name.")
waive_option = click.option(
    "--waive",
    default="",
    help="Accept a check or step on every target, or a fleet without canaries, as 'NAME: REASON'.",
)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose the engine."""
    for option in (
        click.option(
            "--engine", "kind", default="dask", show_default=True, type=click.Choice(["dask", "threads"]), help="The engine."
        ),
        click.option("--scheduler", default="", metavar="ADDRESS", help="A team's Dask cluster, in place of this machine."),
        click.option("--tls", "tls_file", type=click.Path(path_type=Path), help="A YAML file with Dask's TLS keys for it."),
    ):
        command = option(command)
    return command


@click.group(epilog=CODES)
def fleet() -> None:
    """Roll one plan back on many targets, in waves."""


@fleet.command(epilog=_with_example("runbook fleet plan fleet.yaml"))
@click.argument("file", metavar="FILE", callback=_path)
@operator_option
@click.option("--reason", default="", help="The reason, for the rollback log.")
@click.option("--incident", default="", help="The incident number.")
@click.option("--outputs", default=str(ROOT / "outputs"), callback=_path, help="Where the fleet's folder goes.")
@waive_option
@click.option("--take-over", default="", metavar="REASON", help="Take targets over from runs that were abandoned.")
@engine_options
@json_option
def plan(
    file: Path,
    operator: str,
    reason: str,
    incident: str,
    outputs: Path,
    waive: str,
    take_over: str,
    kind: str,
    scheduler: str,
    tls_file: Path | None,
    as_json: bool,
) -> None:
    """Preview the rollback on every target of a fleet file, without changing any target.

    With a fleet's folder instead of its file, preview again every target that was not changed yet.
    """
    from runbook_lib import fleet as fleets
    from runbook_lib.fleet import archive, walk

    if file.is_dir():
        if reason or incident:
            raise click.UsageError("--reason and --incident go with a new fleet: name its file.")
        run = fleets.open_existing(file)
        _require_idle(run)
    else:
        run = fleets.open_new(file, operator=operator, reason=reason, incident=incident, outputs=outputs)
    with ExitStack() as held:
        try:
            engine = held.enter_context(opened_engine(run, kind, scheduler, tls_file))
        except RunbookError:
            if not file.is_dir():
                shutil.rmtree(run.path)  # nothing was begun, and the same command makes another
            raise
        _decided(run, waive, take_over, operator)
        walk.preview(run, engine, held.enter_context(_watched(run, engine, as_json)))
    if archive.is_sealed(run):
        archive.write(run)
    _show(run, as_json, preview=True)
    sys.exit(0 if run.state.previews[run.state.previewed] else 3)


@fleet.command(name="run", epilog=_with_example("runbook fleet run FLEET --approve DIGEST"))
@fleet_argument
@click.option("--approve", default="", metavar="DIGEST", help="The digest that `runbook fleet plan` printed.")
@waive_option
@click.option("--take-over", default="", metavar="REASON", help="Take targets over from runs that were abandoned.")
@click.option("--retry-failed", is_flag=True, help="Only the targets that failed.")
@operator_option
@engine_options
@json_option
def run_command(
    folder: Path,
    approve: str,
    waive: str,
    take_over: str,
    retry_failed: bool,
    operator: str,
    kind: str,
    scheduler: str,
    tls_file: Path | None,
    as_json: bool,
) -> None:
    """Roll the approved targets back, wave after wave, or resume a fleet that was interrupted."""
    from runbook_lib.fleet import open_existing, walk

    run = open_existing(folder)
    _require_idle(run)
    _require_resumed(run)
    only = _failed(run) if retry_failed else []
    _decided(run, waive, take_over, operator)
    if approve:
        walk.approve(run, approve, operator or str(run.state.opened["operator"]))
    walk.require_approved(run)
    with opened_engine(run, kind, scheduler, tls_file) as engine, _watched(run, engine, as_json) as watch:
        ended = walk.apply(run, engine, only=only, watch=watch)
    _show(run, as_json)
    sys.exit(ended.exit_code)


@fleet.command(epilog=_with_example("runbook fleet status FLEET"))
@read_argument
@json_option
def status(folder: str, as_json: bool) -> None:
    """Show every target's state and the next commands, from the journals alone; FLEET may be a URL."""
    with fetched.folder(folder) as path:
        show(path, as_json, folder if fetched.is_url(folder) else "")


@fleet.command(epilog=_with_example("runbook fleet undo FLEET"))
@fleet_argument
@click.option("--approve", default="", metavar="DIGEST", help="The digest of the undo, as this command prints it.")
@operator_option
@engine_options
@json_option
def undo(folder: Path, approve: str, operator: str, kind: str, scheduler: str, tls_file: Path | None, as_json: bool) -> None:
    """Preview the undo of a fleet, the last wave first; with --approve DIGEST, undo it."""
    from runbook_lib.fleet import open_existing, undoing, walk

    run = open_existing(folder)
    _require_idle(run)
    if approve:
        _require_resumed(run)
    offered = undoing.offer(run)
    if not approve:
        text = terminal.wrapped("\n".join(offered.lines(str(folder))))
        click.echo(json.dumps(redact_values(offered.as_json())) if as_json else text)
        sys.exit(3 if offered.refused else 0)
    undoing.approve(run, offered, approve, operator or str(run.state.opened["operator"]))
    with opened_engine(run, kind, scheduler, tls_file) as engine, _watched(run, engine, as_json) as watch:
        ended = walk.undo(run, engine, run.state.undone_by, watch)
    _show(run, as_json)
    sys.exit(ended.exit_code)


@fleet.command(epilog=_with_example("runbook fleet report FLEET"))
@read_argument
@json_option
def report(folder: str, as_json: bool) -> None:
    """Write fleet-report.html and the fleet's seal from the journals, at any moment.

    Of a fleet at a URL, write the report into the current directory.
    """
    from runbook_lib.fleet import archive, open_existing
    from runbook_lib.fleet.report import FILE

    if fetched.is_url(folder):
        _report_of_a_url(folder, as_json)
        return
    run = open_existing(Path(folder))
    held_by = run.folder.held_by()
    unsealed = archive.write(run, held_by)
    sealed = not unsealed and not held_by
    if as_json:
        facts = {"fleet": str(folder), "report": str(run.path / FILE), "sealed": sealed, "unsealed": unsealed}
        click.echo(json.dumps(redact_values(facts)))
        return
    lines = [str(Path(folder) / FILE), *(f"Not sealed: {name}: {why}" for name, why in unsealed.items())]
    if held_by:
        lines.append(f"Not sealed: a process acts in this fleet now ({held_by}).")
    click.echo(terminal.wrapped("\n".join(lines)))


def _report_of_a_url(url: str, as_json: bool) -> None:
    from runbook_lib.fleet import open_existing
    from runbook_lib.fleet import report as reports

    with fetched.folder(url) as path:
        run = open_existing(path)
        file = Path(f"{run.folder.id}.html").absolute()
        shutil.copy(reports.write(run, cache(load_plan), url=url), file)
    said = f"{file}\nNot sealed: the fleet was read from {url}, and nothing was changed there."
    facts = {"fleet": url, "report": str(file), "sealed": False, "unsealed": {}}
    click.echo(json.dumps(redact_values(facts)) if as_json else terminal.wrapped(said))


@fleet.command(epilog=_with_example("runbook fleet pause FLEET"))
@fleet_argument
@operator_option
@json_option
def pause(folder: Path, operator: str, as_json: bool) -> None:
    """Begin no other target or step and pause the steps under way, until `resume`."""
    said = "no other target or step begins; steps under way pause before their next batch"
    _request(folder, "pause", operator, said, as_json)


@fleet.command(epilog=_with_example("runbook fleet resume FLEET"))
@fleet_argument
@operator_option
@json_option
def resume(folder: Path, operator: str, as_json: bool) -> None:
    """Resume after a pause; after an abort, allow `runbook fleet run` again."""
    _request(folder, "resume", operator, "the fleet is resumed", as_json)


@fleet.command(epilog=_with_example("runbook fleet abort FLEET"))
@fleet_argument
@operator_option
@json_option
def abort(folder: Path, operator: str, as_json: bool) -> None:
    """Begin no other target or step and end the steps under way before their next batch."""
    said = "no other target or step begins; steps under way end before their next batch"
    _request(folder, "abort", operator, said, as_json)


def _decided(run: FleetRun, waive: str, take_over: str, operator: str) -> None:
    """Record a waiver and a takeover for every target, where they are given."""
    by = operator or str(run.state.opened["operator"])
    if waive:
        run.waive(waive, by)
    if take_over:
        run.take_over(take_over, by)


def _request(folder: Path, request: Request, operator: str, said: str, as_json: bool) -> None:
    """Record a request that somebody or something waits for.

    Raises:
        PreconditionError: No process acts in the fleet, or nothing was paused or aborted.
    """
    from runbook_lib.fleet import open_existing

    run = open_existing(folder)
    held_by = run.folder.held_by()
    if request == "resume" and run.state.request == "resume":
        raise _refused(run, "This fleet is neither paused nor aborted, so there is nothing to resume.")
    if request != "resume" and not held_by:
        raise _refused(run, f"No process acts in this fleet now, so there is nothing to {request}.")
    run.request(request, operator or str(run.state.opened["operator"]))
    if request == "resume" and not held_by:
        said += f". No process acts in it now. To continue:\nrunbook fleet run {folder}"
    else:
        said += "."
    click.echo(
        json.dumps({"fleet": str(folder), "request": request, "held_by": held_by})
        if as_json
        else terminal.wrapped(f"{folder}: {said}")
    )


def _failed(run: FleetRun) -> list[str]:
    """The targets that failed.

    Raises:
        PreconditionError: There is none.
    """
    from runbook_lib.fleet.standing import FAILED

    found = [name for name, each in run.standings().items() if each.word in FAILED]
    if not found:
        raise _refused(run, "No target of this fleet failed, so there is nothing to retry.")
    return found


def _require_idle(run: FleetRun) -> None:
    """See that no other process acts in the fleet, before anything is journaled or any worker starts.

    Raises:
        PreconditionError: One does.
    """
    if held_by := run.folder.held_by():
        raise PreconditionError(
            f"Another process acts in this fleet now: {held_by}.",
            where=str(run.path),
            state="This process changed nothing.",
            safe_next=f"Wait for it, or use `runbook fleet pause {run.path}` or `runbook fleet abort {run.path}`.",
        )


def _require_resumed(run: FleetRun) -> None:
    """See that the fleet is neither paused nor aborted: no target would begin.

    Raises:
        PreconditionError: It is.
    """
    if run.state.request != "resume":
        raise PreconditionError(
            f"This fleet was {'paused' if run.state.request == 'pause' else 'aborted'}, and nobody resumed it.",
            where=str(run.path),
            state="This process changed nothing.",
            safe_next=f"`runbook fleet resume {run.path}`, then repeat the command.",
        )


def _refused(run: FleetRun, what: str) -> PreconditionError:
    return PreconditionError(
        what,
        where=str(run.path),
        state="This command changed nothing.",
        safe_next=f"Look at `runbook fleet status {run.path}`.",
    )


@contextmanager
def opened_engine(run: FleetRun, kind: str, scheduler: str, tls_file: Path | None) -> Iterator[Engine]:
    """The engine that the options name, closed at the end."""
    from runbook_lib.config.fleet import load_tls
    from runbook_lib.fleet.engines import Pool
    from runbook_lib.fleet.walk import ROOM

    if tls_file and not scheduler:
        raise click.UsageError("--tls goes with --scheduler.")
    servers = {about["server"] for about in run.state.targets.values()}
    threads = min(ROOM * run.fleet.at_once * len(servers), MOST_THREADS, len(run.state.targets))
    engine: Engine
    if kind == "threads" and not scheduler:
        engine = Pool(threads)
    else:
        require_extra("fleet")
        from runbook_lib.fleet.dask_engine import Dask

        tls = load_tls(tls_file) if tls_file else None
        engine = Dask.cluster(scheduler, run.path, tls) if scheduler else Dask.local(threads)
    try:
        yield engine
    finally:
        engine.close()


MOST_THREADS = 32


@contextmanager
def _watched(run: FleetRun, engine: Engine, as_json: bool) -> Iterator[Callable[[], object]]:
    """What draws the board in a terminal as the fleet goes through its waves; elsewhere a line for each change."""
    if as_json:
        yield lambda: None
        return
    from runbook_lib.fleet import live

    with live.watched(run, engine.dashboard) as watch:
        yield watch


def show(folder: Path, as_json: bool, url: str = "") -> None:
    """Print the state of a fleet from the journals alone; `url` is the place of which the folder is a copy. Read-only."""
    from runbook_lib.fleet import open_existing

    _show(open_existing(folder), as_json, url=url)


def _show(run: FleetRun, as_json: bool, *, preview: bool = False, url: str = "") -> None:
    from runbook_lib.fleet import board

    state, standings, held_by = run.state, run.standings(), run.folder.held_by()
    if as_json:
        facts = board.as_json(url or str(run.path), state, standings, held_by) | ({"next": []} if url else {})
        click.echo(json.dumps(redact_values(facts), default=str))
        return
    if preview:
        shown = board.preview_table(state, standings, board.MOST_ROWS).astype(str)
        lines, head, rows = board.totals(state, standings), list(shown.columns), shown.values.tolist()
    else:
        lines, head, rows = board.headline(state, standings), board.BOARD, board.board_rows(state, standings)
    if held_by:
        lines.append(f"A process acts in this fleet now ({held_by}).")
    if len(rows) < len(standings):
        lines.append(f"{len(standings) - len(rows)} targets have no row here; `runbook fleet report` lists all.")
    click.echo(terminal.wrapped("\n".join(lines)))
    if rows:
        click.echo("\n" + terminal.table("", head, rows, ["state"]).lstrip("\n"))
    if url:
        click.echo("\n" + terminal.wrapped(f"Read from {url}, which does not show whether a process acts in the fleet now."))
    elif next_ := board.ways_on(run.folder.label, state, standings, held_by):
        click.echo("\n" + terminal.wrapped("\n".join(next_)))
