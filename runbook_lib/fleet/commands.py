"""`runbook fleet`: one plan, many targets. Each command is one library call."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from runbook_lib.config.installed import require_extra
from runbook_lib.config.loading import ROOT
from runbook_lib.redaction import redact, redact_values

if TYPE_CHECKING:
    from runbook_lib.fleet import FleetRun
    from runbook_lib.fleet.engines import Engine

fleet_argument = click.argument("folder", metavar="FLEET", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
operator_option = click.option("--operator", default="", help="Who is at the keyboard.")


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


@click.group()
def fleet() -> None:
    """Roll one plan back on many targets, in waves."""


@fleet.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@operator_option
@click.option("--reason", default="", help="Why, for the log.")
@click.option("--incident", default="", help="The incident's number.")
@click.option("--outputs", default=ROOT / "outputs", type=click.Path(path_type=Path), help="Where the fleet's folder goes.")
@click.option("--waive", default="", help="Accept a check or step on every target, as 'NAME: REASON'.")
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
    """Preview the rollback on every target of a fleet file, or of a fleet's folder again; writes nothing to any target."""
    from runbook_lib import fleet as fleets
    from runbook_lib.fleet import walk

    if file.is_dir():
        run = fleets.open_existing(file)
    else:
        run = fleets.open_new(file, operator=operator, reason=reason, incident=incident, outputs=outputs)
    _decided(run, waive, take_over, operator)
    with _engine(run, kind, scheduler, tls_file) as engine, _watched(run, as_json) as watch:
        walk.preview(run, engine, watch)
    _show(run, as_json, preview=True)
    sys.exit(0 if run.state.previews[run.state.previewed] else 3)


@fleet.command(name="run")
@fleet_argument
@click.option("--approve", default="", metavar="DIGEST", help="The digest that `runbook fleet plan` printed.")
@click.option("--waive", default="", help="Accept a check or step on every target, as 'NAME: REASON'.")
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
    """Roll the approved targets back, wave after wave, or resume where a fleet was left."""
    from runbook_lib.fleet import open_existing, walk
    from runbook_lib.fleet.standing import FAILED

    run = open_existing(folder)
    _decided(run, waive, take_over, operator)
    if approve:
        walk.approve(run, approve, operator or str(run.state.opened["operator"]))
    only = [name for name, each in run.standings().items() if each.word in FAILED] if retry_failed else []
    with _engine(run, kind, scheduler, tls_file) as engine, _watched(run, as_json) as watch:
        ended = walk.apply(run, engine, only=only, watch=watch)
    _show(run, as_json)
    sys.exit(ended.exit_code)


@fleet.command()
@fleet_argument
@json_option
def status(folder: Path, as_json: bool) -> None:
    """Show every target's state, by the journals alone; no target is asked."""
    from runbook_lib.fleet import open_existing

    _show(open_existing(folder), as_json)


@fleet.command()
@fleet_argument
@click.option("--approve", default="", metavar="DIGEST", help="The digest of the undo, as this command prints it.")
@operator_option
@engine_options
@json_option
def undo(folder: Path, approve: str, operator: str, kind: str, scheduler: str, tls_file: Path | None, as_json: bool) -> None:
    """Undo the targets that were rolled back, the last wave first: first a preview, then, with its digest, the undo."""
    from runbook_lib.fleet import open_existing, undoing, walk

    run = open_existing(folder)
    offered = undoing.offer(run)
    if not approve:
        text = offered.lines(str(folder))
        click.echo(json.dumps(redact_values(offered.as_json())) if as_json else redact("\n".join(text)))
        sys.exit(3 if offered.refused else 0)
    undoing.approve(run, offered, approve, operator or str(run.state.opened["operator"]))
    with _engine(run, kind, scheduler, tls_file) as engine, _watched(run, as_json) as watch:
        ended = walk.undo(run, engine, run.state.undone_by, watch)
    _show(run, as_json)
    sys.exit(ended.exit_code)


@fleet.command()
@fleet_argument
@operator_option
@json_option
def pause(folder: Path, operator: str, as_json: bool) -> None:
    """Begin no other target, and pause the steps under way, until `resume`."""
    _requested(folder, "pause", operator, as_json)


@fleet.command()
@fleet_argument
@operator_option
@json_option
def resume(folder: Path, operator: str, as_json: bool) -> None:
    """Go on after a pause; after an abort, have `runbook fleet run` go on."""
    _requested(folder, "resume", operator, as_json)


@fleet.command()
@fleet_argument
@operator_option
@json_option
def abort(folder: Path, operator: str, as_json: bool) -> None:
    """Begin no other target, and end the steps under way before their next batch."""
    _requested(folder, "abort", operator, as_json)


def _decided(run: FleetRun, waive: str, take_over: str, operator: str) -> None:
    """Record a waiver and a takeover for every target, where they are given."""
    by = operator or str(run.state.opened["operator"])
    if waive:
        run.waive(waive, by)
    if take_over:
        run.take_over(take_over, by)


def _requested(folder: Path, request: str, operator: str, as_json: bool) -> NoReturn:
    from runbook_lib.fleet import open_existing

    run = open_existing(folder)
    run.request(request, operator or str(run.state.opened["operator"]))  # type: ignore[arg-type]
    click.echo(json.dumps({"fleet": str(folder), "request": request}) if as_json else f"{folder}: {request} is on record.")
    sys.exit(0)


@contextmanager
def _engine(run: FleetRun, kind: str, scheduler: str, tls_file: Path | None) -> Iterator[Engine]:
    """The engine that the options name, closed at the end."""
    from runbook_lib.config.loading import read
    from runbook_lib.fleet.engines import Pool

    if tls_file and not scheduler:
        raise click.UsageError("--tls goes with --scheduler.")
    servers = {about["server"] for about in run.state.targets.values()}
    threads = min(run.fleet.at_once * len(servers), MOST_THREADS, len(run.state.targets))
    engine: Engine
    if kind == "threads" and not scheduler:
        engine = Pool(threads)
    else:
        require_extra("fleet")
        from runbook_lib.fleet.dask_engine import Dask

        engine = Dask.cluster(scheduler, read(tls_file) if tls_file else None) if scheduler else Dask.local(threads)
    try:
        yield engine
    finally:
        engine.close()


MOST_THREADS = 32


@contextmanager
def _watched(run: FleetRun, as_json: bool) -> Iterator[Callable[[], object]]:
    """What draws the board in a terminal as the fleet goes on; elsewhere a line for each target that ended."""
    if as_json:
        yield lambda: None
        return
    from runbook_lib.fleet import live

    with live.watched(run) as watch:
        yield watch


def _show(run: FleetRun, as_json: bool, *, preview: bool = False) -> None:
    from runbook_lib.fleet import board, live

    state, standings = run.state, run.standings()
    if as_json:
        click.echo(json.dumps(redact_values(board.as_json(str(run.path), state, standings)), default=str))
        return
    if preview:
        lines = board.totals(state, standings)
        table = live.table(list(board.preview_table(state, standings).astype(str).columns), _texts(run))
    else:
        lines = board.headline(state, standings)
        table = live.table(board.BOARD, board.board_rows(state, standings))
    click.echo(redact("\n".join([*lines, "", table, *board.ways_on(str(run.path), state, standings)])))


def _texts(run: FleetRun) -> list[list[str]]:
    from runbook_lib.fleet import board

    return board.preview_table(run.state, run.standings()).astype(str).values.tolist()
