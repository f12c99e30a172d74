"""The command line: one library call a command. Exit codes: 0 verified, 1 declined, 2 usage, 3 failed, 4 unknown."""

import atexit
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from runbook_lib import closing, conductor, details, display, dryrun, leasing, opening, purging, service_back, steering
from runbook_lib.closing import Outcome
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.folder import RunFolder
from runbook_lib.parts import Wanted
from runbook_lib.plan import load_plan
from runbook_lib.progress import Told, to_console
from runbook_lib.redaction import redact
from runbook_lib.run import Run
from runbook_lib.seat import mirroring, moving
from runbook_lib.state import RunState, replay
from runbook_lib.target import load_target

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group()
def commands() -> None:
    """Roll a release back: rehearse, plan, run, and verify what was done."""


def main() -> None:
    """Run the command line; an error of the runbook is a message and an exit code, never a traceback."""
    atexit.register(gc.freeze)  # what is left in memory goes with the process: the interpreter need not search it
    try:
        commands(standalone_mode=False)
    except RunbookError as error:
        if "--json" in sys.argv:
            click.echo(json.dumps({"error": redact(str(error)), "exit_code": error.exit_code}))
        else:
            click.echo(redact(str(error)), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--json" in sys.argv:
            click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}))
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. What was done is in the journal; the same command goes on from there.", err=True)
        sys.exit(4)


@commands.command()
@click.option("--scenario", default="all-media-missing", show_default=True, help="Which fault to rehearse, or all.")
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows in the table.")
@click.option("--matrix", is_flag=True, help="Hold each fault of the decision matrix against every row's own check.")
@json_option
def rehearse(scenario: str, rows: int, matrix: bool, as_json: bool) -> None:
    """Bring up the embedded stack, break it, roll back, verify, tear down."""
    if matrix:
        sys.exit(_matrix(rows, as_json))
    from runbook_lib.rehearsal.rehearse import rehearse as carry_out

    told = carry_out(scenario, rows, _teller(as_json))
    if as_json:
        click.echo(json.dumps([vars(one) for one in told]))
    sys.exit(max(one.exit_code for one in told))


@commands.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan file.")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target file.")
@click.option("--rehearsal", is_flag=True, help="A game day: the embedded stack with a fault in it, gone afterwards.")
@click.option("--scenario", default="all-media-missing", show_default=True, help="Which fault, on a game day.")
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows, on a game day.")
@click.option("--operator", default="", help="Who is at the keyboard.")
@click.option("--reason", default="", help="Why, for the log.")
@click.option("--incident", default="", help="The incident's number.")
@click.option("--browser/--no-browser", default=True, help="Open the link, besides printing it.")
@json_option
def lab(
    run: Path | None,
    plan_file: Path | None,
    target_file: Path | None,
    rehearsal: bool,
    scenario: str,
    rows: int,
    browser: bool,
    as_json: bool,
    **about: str,
) -> None:
    """Open a new run, or RUN, in JupyterLab; Ctrl-C ends it."""
    from runbook_lib.lab import seat

    def opened(run: Run, link: str) -> None:
        if as_json:
            click.echo(json.dumps({"run": str(run.folder.path), "link": link}))
        else:
            click.echo(f"Run {run.folder.path}\nOpen {link}\nCtrl-C ends it.")
        if browser:
            seat.show(link)

    if sum([rehearsal, run is not None, plan_file is not None and target_file is not None]) != 1:
        raise click.UsageError("Name a plan and a target, or a run to go on with, or --rehearsal.")
    try:
        if rehearsal:
            seat.game_day(scenario, rows, opened, **about)
        elif run:
            seat.seat(opening.open_existing(run, about["operator"]), opened)
        elif plan_file and target_file:
            seat.seat(seat.begin(plan_file, target_file, **about), opened)
    except KeyboardInterrupt:  # the way this command is meant to be ended
        click.echo("Closed: JupyterLab and what came up with it are down.", err=True)


@commands.command()
@click.option("--plan", "plan_file", required=True, type=click.Path(path_type=Path), help="A plan file.")
@click.option("--target", "target_file", required=True, type=click.Path(path_type=Path), help="A target file.")
@click.option("--type", "type_name", required=True, help="The rollback type, such as frontend or full.")
@click.option("--option", default="A", show_default=True)
@click.option("--choose", "chosen", default="", help="What else differs from the plan: NAME=value, NAME=value.")
@click.option("--operator", default="", help="Who is at the keyboard.")
@click.option("--reason", default="", help="Why, for the log.")
@click.option("--incident", default="", help="The incident's number.")
@json_option
def plan(plan_file: Path, target_file: Path, type_name: str, chosen: str, as_json: bool, **about: str) -> None:
    """Preview every step of a rollback; nothing is written to the target, and that is shown."""
    wanted = details.read(chosen)
    run = opening.open_new(plan_file, target_file, type_name, **about)  # type: ignore[arg-type]
    try:
        details.require_known(wanted, run.details())
        for name, value in wanted.items():
            run.choose(name, value, "parameter")
        told = dryrun.dry_run(run)
    finally:
        run.close_adapters()
    if as_json:
        click.echo(json.dumps({"run": str(run.folder.path), **told.as_json()}))
    else:
        click.echo(redact(told.shown.text))
        click.echo(f"\nTo carry it out: runbook run {run.folder.path} --approve {told.digest}")


@commands.command(name="run")
@run_argument
@click.option("--approve", "approved", multiple=True, help="A digest that `runbook plan` printed.")
@click.option("--waive", default="", help="NAME: REASON of a check or step that may fail.")
@click.option("--take-over", default="", metavar="REASON", help="Take the target from a run that was left behind.")
@json_option
def run_command(run: Path, approved: tuple[str, ...], waive: str, take_over: str, as_json: bool) -> None:
    """Carry out a planned run, or go on with one that was cut short, in its folder."""
    opened = _with_a_type(run)
    if take_over:
        leasing.take_over(opened, take_over)
    outcome = conductor.carry_out(run, _approval(approved), {"WAIVE": waive}, _teller(as_json))
    _end(opened, outcome, as_json)


@commands.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--from-target", "target_file", type=click.Path(path_type=Path), help="Read it from this target's database.")
@json_option
def status(run: Path | None, target_file: Path | None, as_json: bool) -> None:
    """What the journal says of a run; the target is asked only for the copy of the journal that it keeps."""
    if target_file:
        name, events = mirroring.read(load_target(target_file), run.name if run else "")
        state = replay(events)
        folder, plan = RunFolder(Path(name)), load_plan(Path(state.opened["plan_file"]))
    elif run:
        folder, plan, state = opening.read(run)
    else:
        raise click.UsageError("Name a run folder, or a target with --from-target.")
    if as_json:
        click.echo(json.dumps(_as_json(folder, state), default=vars))
    else:
        click.echo(redact(display.status(folder, plan, state).text))


@commands.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--to", required=True, help="Who carries the run on.")
@click.option(
    "--from-target", "target_file", type=click.Path(path_type=Path), help="Take it up here, from this target's database."
)
@json_option
def handover(run: Path | None, to: str, target_file: Path | None, as_json: bool) -> None:
    """Hand a run over to another engineer, here or on the machine where this is typed; both names stay on record."""
    if target_file:
        opened = moving.take_up(target_file, run.name if run else "", to)
        before = opened.state.handovers[-1]["from"] if opened.state.handovers else opened.state.operator
    elif run:
        opened = opening.open_existing(run)
        before = mirroring.hand_over(opened, to)
    else:
        raise click.UsageError("Name a run folder, or a target with --from-target.")
    opened.close_adapters()
    named = {"run": str(opened.folder.path), "from": before, "to": opened.state.operator}
    click.echo(
        json.dumps(named) if as_json else f"{named['run']}: handed over by {before or 'nobody named'} to {named['to']}."
    )


@commands.command(name="service-back")
@run_argument
@click.option("--approve", default="", help="The digest of the way, as this command prints it.")
@json_option
def service_back_command(run: Path, approve: str, as_json: bool) -> None:
    """The nearest way to services that run in an allowed combination: first shown, then, with its digest, walked."""
    opened = opening.open_existing(run)
    try:
        offered = service_back.offer(opened)
        done, ended = service_back.walk(opened, offered, approve) if approve and offered.way.moves else ([], None)
        if ended:
            closing.write_archive(opened)
    finally:
        opened.close_adapters()
    if as_json:
        moves = [vars(move) for move in offered.way.moves]
        told = {"run": str(run), "digest": offered.digest, "moves": moves, "done": [d.step for d in done]}
        click.echo(json.dumps({**told, "outcome": opened.state.outcome}))
        return
    click.echo(redact(display.way(offered.way, opened.context.plan, opened.state).text))
    if offered.previews:
        click.echo(redact(display.previews(offered.previewed, offered.previews).text))
    if ended:
        click.echo(redact(display.outcome(ended, opened.state).text))
    elif offered.way.moves:
        click.echo(f"\nTo walk it: runbook service-back {run} --approve {offered.digest}")


@commands.command()
@run_argument
@click.option("--debt", default="", help="Which one; else every open debt.")
@click.option("--approve", default="", help="The digest of the preview, as this command prints it.")
@json_option
def purge(run: Path, debt: str, approve: str, as_json: bool) -> None:
    """Pay the open debts of a run for good: first a preview, then, with its digest, the deed."""
    opened = opening.open_existing(run)
    try:
        digest, previews = purging.preview(opened, debt)
        if approve:
            purging.pay(opened, digest, approve, debt)
    finally:
        opened.close_adapters()
    if as_json:
        click.echo(json.dumps({"digest": digest, "previews": [vars(p) for p in previews], "paid": bool(approve)}))
    elif previews:
        click.echo(redact(display.previews(digest, previews).text))
        click.echo("Paid." if approve else f"\nThis cannot be undone. To pay: runbook purge {run} --approve {digest}")
    else:
        click.echo("This run owes nothing.")


@commands.command()
@run_argument
@click.option("--waive", default="", metavar="NAME", help="A check that may be anything but PASS.")
@click.option("--reason", default="", help="Why it is waived; it stays on record.")
@json_option
def check(run: Path, waive: str, reason: str, as_json: bool) -> None:
    """Make the whole checklist of a run again, and judge the run by it; the target is only looked at."""
    opened = _with_a_type(run)
    if waive or reason:
        opened.waive(waive, reason)
    try:
        found = closing.verify(opened)
        outcome = closing.close(opened)
    finally:
        opened.close_adapters()
    closing.write_archive(opened)
    if not as_json:
        click.echo(redact(display.results(found, "Verification", opened.state.waivers).text))
        click.echo(redact(display.outcome(outcome, opened.state).text))
    _end(opened, outcome, as_json)


@commands.command()
@run_argument
@json_option
def pause(run: Path, as_json: bool) -> None:
    """Have the step that acts now wait before its next batch, until `resume` or `abort`."""
    _steer(run, "pause", "waits before its next batch", as_json)


@commands.command()
@run_argument
@json_option
def resume(run: Path, as_json: bool) -> None:
    """Have a step that was paused go on."""
    _steer(run, "go on", "goes on", as_json)


@commands.command()
@run_argument
@json_option
def abort(run: Path, as_json: bool) -> None:
    """Have the step that acts now end before its next batch; `runbook run` goes on from there."""
    _steer(run, "abort", "ends before its next batch", as_json)


@commands.command()
@run_argument
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Check the seal of an archived run: every file, and the journal's chain."""
    from runbook_lib import archive

    problems = [str(problem) for problem in archive.verify(run)]
    if as_json:
        click.echo(json.dumps({"run": str(run), "intact": not problems, "problems": problems}))
    else:
        click.echo("\n".join(problems) or f"{run}: every file is as it was sealed. The seal is not signed.")
    sys.exit(3 if problems else 0)


def _with_a_type(folder: Path) -> Run:
    opened = opening.open_existing(folder)
    if not opened.context.type:
        raise ParametersError(
            "This run has no rollback type yet.", state="Nothing was changed.", safe_next="Choose one in 01-triage."
        )
    return opened


def _matrix(rows: int, as_json: bool) -> int:
    from runbook_lib.rehearsal import matrix
    from runbook_lib.rehearsal.paths import PLAN

    plan = load_plan(PLAN)
    lines = matrix.matrix(rows, _teller(as_json))
    wrong = matrix.problems(plan, lines)
    if as_json:
        click.echo(json.dumps({"lines": [vars(line) for line in lines], "problems": wrong}, default=dict))
    else:
        click.echo("\n".join([matrix.shown(plan, lines).text, *wrong]))
    return 3 if wrong else 0


def _steer(run: Path, wanted: Wanted, said: str, as_json: bool) -> None:
    opened = opening.open_existing(run)
    try:
        title = steering.steer(opened, wanted)
    finally:
        opened.close_adapters()
    click.echo(
        json.dumps({"run": str(opened.folder.path), "step": title, "wanted": wanted}) if as_json else f"“{title}” {said}."
    )


def _teller(as_json: bool) -> Told:
    return (lambda _: None) if as_json else to_console(Console())


def _approval(approved: tuple[str, ...]) -> Callable[[Run], str]:
    """Ask for the approval on a terminal; elsewhere only a digest named beforehand counts."""

    def approve(run: Run) -> str:
        known = run.state.previews
        named = [digest for digest in approved if digest in known and set(known[digest]) == set(run.steps)]
        if named:
            return named[-1]
        run.prerequisites()
        digest, found = run.previews()
        if digest in approved:
            return digest
        click.echo(redact(display.previews(digest, found, run.tried(digest)).text), err=True)
        if approved or not sys.stdin.isatty():
            click.echo(f"Not approved: this is preview {digest}. Approve it with --approve {digest}", err=True)
            return ""
        answer = run.context.target.name
        typed = click.prompt(f"Type {answer} to carry this out, anything else to leave", default="", show_default=False)
        return digest if typed.strip() == answer else ""

    return approve


def _end(run: Run, outcome: Outcome, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(run.folder, run.state), default=vars))
    else:
        click.echo(f"Report: {run.folder.path / 'report.html'}")
    sys.exit(outcome.exit_code)


def _as_json(folder: RunFolder, state: RunState) -> dict[str, Any]:
    return {
        "run": str(folder.path),
        "type": state.type,
        "steps": state.steps,
        "checks": state.checks.get("after", {}),
        "waivers": state.waivers,
        "debts": state.debts,
        "outcome": state.outcome,
    }
