"""The command line: one library call a command. Exit codes: 0 verified, 1 declined, 2 usage, 3 failed, 4 unknown."""

from __future__ import annotations

import atexit
import gc
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
import yaml

from runbook_lib import records
from runbook_lib.config.installed import require_extra
from runbook_lib.config.loading import ROOT
from runbook_lib.config.plan import summary
from runbook_lib.config.target import pair
from runbook_lib.documents import load_plan, load_target, resolved
from runbook_lib.errors import ParametersError, RunbookError
from runbook_lib.headless import conductor, dry_run
from runbook_lib.history import commits
from runbook_lib.journal import Journal
from runbook_lib.journal.control import Request
from runbook_lib.journal.folder import RunFolder
from runbook_lib.journal.state import RunState, replay
from runbook_lib.records import comparison
from runbook_lib.redaction import in_clear, redact, redact_output, redact_values, register_environment
from runbook_lib.report.junit import ROLLBACK, Write, of_run, written
from runbook_lib.run import Run, approval, by_hand, cleanup, lease, lifecycle, listing, recovery, undo
from runbook_lib.run.approval import named_reason
from runbook_lib.system import temporary
from runbook_lib.system.signals import settle
from runbook_lib.ui import display, mirror
from runbook_lib.ui.progress import Report, to_console

if TYPE_CHECKING:
    from runbook_lib.rehearsal.executed import Asked

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
junit_option = click.option(
    "--junit", "junit_file", type=click.Path(path_type=Path), help="Write each step and check to this JUnit XML file."
)
WIDTH = 120  # of YAML that is printed
run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group()
def commands() -> None:
    """Roll a release back: rehearse, plan, run, and verify what was done."""
    redact_output()


def main() -> None:
    """Run the command line; an error of the runbook is a message and an exit code, never a traceback."""
    settle()
    redact_output()
    atexit.register(gc.freeze)  # what is left in memory goes with the process: the interpreter need not search it
    try:
        with _errors_of_the_system_named():
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


@contextmanager
def _errors_of_the_system_named() -> Iterator[None]:
    """Have a full disk, or a file that may not be read, reported as any other error."""
    try:
        yield
    except OSError as error:
        raise RunbookError(
            f"The operating system refused: {error}.",
            state="What was done is in the journal.",
            safe_next="Make room or correct the rights there, then run the same command again.",
        ) from error


@commands.command()
@click.option("--scenario", default="", help="Which fault to rehearse, or all; else all-media-missing, or with --plan none.")
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows in the table.")
@click.option(
    "--stack", "stack_name", default="sample", show_default=True, help="sample, node, compose, or a file of yours."
)
@click.option("--matrix", is_flag=True, help="Hold each fault of the decision matrix against every row's own check.")
@click.option("--before", type=click.Path(path_type=Path), help="A script or a dump of a database before a migration.")
@click.option("--migration", "migrations", type=click.Path(path_type=Path), multiple=True, help="Its script; repeatable.")
@click.option("--use", type=click.Path(path_type=Path), help="A script of what users wrote after it.")
@click.option("--keep", default="", metavar="DSN", help="An empty database to do it in, and to leave as it is then.")
@click.option("--server", default="", metavar="DSN", help="A server for it, in place of an embedded one.")
@click.option("--option", default="", help="What to take back: data-only (A) or data-and-schema (B); else all that changed.")
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), help="A plan: of that --stack, or what decides of the migration."
)
@click.option("--notebook", "file", type=click.Path(path_type=Path), help="Execute it as a notebook, and keep that here.")
@click.option("--verbose", is_flag=True, help="Print the statements, too.")
@junit_option
@json_option
def rehearse(
    scenario: str,
    rows: int,
    stack_name: str,
    matrix: bool,
    before: Path | None,
    migrations: tuple[Path, ...],
    use: Path | None,
    keep: str,
    server: str,
    option: str,
    plan_file: Path | None,
    file: Path | None,
    verbose: bool,
    junit_file: Path | None,
    as_json: bool,
) -> None:
    """Bring up the embedded stack, break it, roll back, verify, tear down; or roll back any MIGRATION.

    With --plan and --stack it does so with your release: parameters/stack.example.yaml describes such a stack.
    With --before and --migration no stack is needed: on scratch databases the migration is applied, taken back, verified,
    undone, and applied again.
    """
    if bool(before) != bool(migrations) or (not before and (use or keep or server or option or file)):
        raise click.UsageError(
            "--before and --migration go together; --use, --keep, --server, --option and --notebook do too."
        )
    if keep and server:
        raise click.UsageError("--keep names its server itself: leave --server out.")
    require_extra("rehearsal")
    from runbook_lib.rehearsal import junit

    if before:
        from runbook_lib.rehearsal.executed import Asked

        asked = Asked(before, migrations, use, keep, server, option, plan_file)
        with written(junit_file, junit.MIGRATION) as write:
            sys.exit(_rehearsed(asked, file, verbose, as_json, write))
    if matrix:
        with written(junit_file, junit.MATRIX) as write:
            sys.exit(_matrix(rows, stack_name, as_json, write))
    from runbook_lib.rehearsal import own, rehearse

    found: Sequence[rehearse.Rehearsed]
    named = scenario or (own.NONE if plan_file else "all-media-missing")
    with written(junit_file, junit.of_scenario(named)) as write:
        if plan_file:
            found = own.rehearse(plan_file, stack_name, named, rows, _teller(as_json))
        else:
            found = rehearse.rehearse(named, rows, _teller(as_json), stack_name)
        write(junit.of_rehearsed(found))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found]))
    sys.exit(max(one.exit_code for one in found))


@commands.command()
@click.option("--feature", default="", metavar="ID", help="The feature's id, which names the files; else the plan's.")
@click.option("-o", "file", type=click.Path(path_type=Path), help="Draft a whole plan of --target, and write it here.")
@click.option("--before", type=click.Path(path_type=Path), help="A script or a dump of what was before.")
@click.option("--migration", "migrations", type=click.Path(path_type=Path), multiple=True, help="A script; repeatable.")
@click.option("--server", default="", metavar="DSN", help="A server of the target's version, in place of an embedded one.")
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan: what it decides, and its migrations.")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="The target whose checkout has their files.")
@click.option("--stack", default="", metavar="STACK", help="A stack to bring up for a whole plan, in place of a target.")
@click.option("--repository", type=click.Path(path_type=Path), help="That checkout, in place of a target's.")
@click.option("--folder", default=".", type=click.Path(path_type=Path), help="Where the changes' files go.")
@json_option
def draft(
    feature: str,
    file: Path | None,
    before: Path | None,
    migrations: tuple[Path, ...],
    server: str,
    plan_file: Path | None,
    target_file: Path | None,
    stack: str,
    repository: Path | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Derive what a feature's migrations changed, and how each thing is taken back, for a plan.

    Without --migration their SQL is what the tool of the plan has in its files, or prints; without --before the
    state from before is what the target recovers to a point in time. Writes ID.changes.yaml, to be read, and ID.states.zip,
    which holds the rows of BEFORE: keep it as you keep a backup.

    With -o and --target, drafts the whole plan: the commits in each repository, the migrations and their tool, the services,
    and checks of what answers. The target is only read; what a person has to decide is null, and stops the plan. With
    --stack the same of a release that is deployed nowhere yet, on a stack that is brought up for it.
    """
    if file:
        if bool(target_file) is bool(stack) or not feature or plan_file or repository:
            raise click.UsageError("-o drafts a whole plan: it takes --feature, and --target or --stack, and no --plan.")
        if stack and (before or migrations or server):
            raise click.UsageError("--stack has its own server, state of before and migrations: leave them out.")
        require_extra("rehearsal")
        from runbook_lib.drafting import on_stack, whole

        report = _teller(as_json)
        if target_file:
            target, given = load_target(target_file), {"before": before, "scripts": migrations, "server": server}
            drafted = whole.draft(target, feature, file, **given, folder=folder, report=report)  # type: ignore[arg-type]
        else:
            drafted = on_stack.draft(stack, feature, file, folder=folder, report=report)
        click.echo(json.dumps(drafted.as_json()) if as_json else redact("\n".join(drafted.lines())))
        sys.exit(drafted.exit_code)
    if stack:
        raise click.UsageError("--stack is for a whole plan: name its file with -o.")
    place = repository or (load_target(target_file) if target_file else None)
    if not migrations and not (plan_file and place):
        raise click.UsageError(
            "Name the scripts by --migration, or their --plan, and its checkout by --target or --repository."
        )
    require_extra("rehearsal")
    from runbook_lib.rehearsal import draft as drafting

    plan = load_plan(plan_file, undrafted=True) if plan_file else None
    with temporary.directory() as own:
        if plan and place and not migrations:
            migrations = (*drafting.scripts_of(plan, place, own),)
        decide = plan.decide if plan else {}
        named = feature or (plan.feature if plan else "")
        before = before or drafting.state_before(plan, place)
        made = drafting.make(named, before, migrations, server, folder, _teller(as_json), decide)
    if as_json:
        click.echo(json.dumps({"file": str(made.file), "sha256": made.sha256, **made.draft.model_dump()}))
    else:
        click.echo("\n".join(drafting.in_words(made)))
    sys.exit(made.exit_code)


@commands.command()
@click.option("--folder", default=".", show_default=True, type=click.Path(path_type=Path), help="The team's repository.")
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write target, stack and CI files into a team's repository, from what is found there; none that exists is changed."""
    from runbook_lib.init import writing

    made = writing.init(folder)
    click.echo(json.dumps(made.as_json()) if as_json else redact("\n".join(made.lines())))


@commands.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="A plan file.")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target file.")
@click.option("--rehearsal", is_flag=True, help="A game day: the embedded stack with a fault in it, gone afterwards.")
@click.option("--scenario", default="all-media-missing", show_default=True, help="Which fault, on a game day.")
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows, on a game day.")
@click.option("--type", "type_name", default="", help="The rollback type of a new run; else triage asks for it.")
@click.option("--option", default="", help="Its option; else it is asked for.")
@click.option("--operator", default="", help="Who is at the keyboard.")
@click.option("--reason", default="", help="Why, for the log.")
@click.option("--incident", default="", help="The incident's number.")
@click.option("--waive", default="", help="NAME: REASON of a prerequisite that may fail.")
@click.option("--browser/--no-browser", default=True, help="Open the link, besides printing it.")
@json_option
def lab(
    run: Path | None,
    plan_file: Path | None,
    target_file: Path | None,
    rehearsal: bool,
    scenario: str,
    rows: int,
    waive: str,
    browser: bool,
    as_json: bool,
    **about: str,
) -> None:
    """Open a new run, or RUN, in JupyterLab; Ctrl-C ends it.

    It opens the triage; where the type is known, the notebook of that, with the steps of its option if that is known too.
    """
    from runbook_lib.lab import server

    def opened(run: Run, link: str) -> None:
        if as_json:
            click.echo(json.dumps({"run": str(run.folder.path), "link": link}), file=in_clear(sys.stdout))
        else:
            click.echo(f"Run {run.folder.path}\nOpen {link}\nCtrl-C ends it.", file=in_clear(sys.stdout))
        if browser:
            server.show(link)

    if sum([rehearsal, run is not None, plan_file is not None and target_file is not None]) != 1:
        raise click.UsageError("Name a plan and a target, or a run to go on with, or --rehearsal.")
    if (about["option"] and not about["type_name"]) or (run and about["type_name"]):
        raise click.UsageError("--type is for a new run, and --option goes with it.")
    try:
        if rehearsal:
            server.game_day(scenario, rows, opened, **about)
        elif run:
            server.seat(_waived(lifecycle.open_existing(run, about["operator"]), waive), opened)
        elif plan_file and target_file:
            server.seat(_waived(server.begin(plan_file, target_file, **about), waive), opened)
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
    approval.read(chosen)  # what it says wrongly makes no run
    run = lifecycle.open_new(plan_file, target_file, type_name, **about)  # type: ignore[arg-type]
    try:
        _choose(run, chosen)
        found = dry_run.dry_run(run)
    finally:
        run.close_adapters()
    refusal = approval.refusal(found.digest, found.obstacles, str(run.folder.path)) if found.obstacles else None
    if as_json:
        error = {"error": redact(str(refusal)), "exit_code": refusal.exit_code} if refusal else {}
        click.echo(json.dumps({"run": str(run.folder.path), **found.as_json(), **error}))
    else:
        click.echo(redact(found.shown.text))
        execute = f"To carry it out: runbook run {run.folder.path} --approve {found.digest}"
        click.echo(redact(f"\n{refusal or execute}"))
    sys.exit(refusal.exit_code if refusal else 0)


@commands.command(name="check-plan")
@click.argument("plan_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target file, checked against the plan.")
@click.option("--resolved", "--verbose", "whole", is_flag=True, help="Print the whole plan as YAML, with what it extends.")
@json_option
def check_plan(plan_file: Path, target_file: Path | None, whole: bool, as_json: bool) -> None:
    """Read a plan and print a line for each of its types; no target is asked for anything."""
    plan = load_plan(plan_file)
    if target_file:
        pair(plan, load_target(target_file), target_file)
    if as_json:
        click.echo(json.dumps(summary.as_json(plan) | ({"plan": resolved(plan_file)} if whole else {})))
    elif whole:
        click.echo(yaml.safe_dump(resolved(plan_file), sort_keys=False, allow_unicode=True, width=WIDTH), nl=False)
    else:
        click.echo("\n".join(summary.lines(plan)))


@commands.command()
@click.option("--plan", "plan_file", required=True, type=click.Path(path_type=Path), help="A plan file.")
@click.option(
    "--target", "target_file", type=click.Path(path_type=Path), help="The target it is for, checked with the plan."
)
@click.option("--type", "type_name", required=True, help="The rollback type, such as frontend or full.")
@click.option("--option", default="", help="Only the steps of this option; else of all.")
@click.option("-o", "file", type=click.Path(path_type=Path), help="Where to write it; else here, by the plan's name for it.")
@json_option
def notebook(
    plan_file: Path, target_file: Path | None, type_name: str, option: str, file: Path | None, as_json: bool
) -> None:
    """Render the notebook of a rollback from its plan, and its text next to it."""
    from runbook_lib.headless import rendering

    plan = load_plan(plan_file)
    if target_file:
        pair(plan, load_target(target_file), target_file)
    made = rendering.rendered(plan, type_name, option, str(plan_file), str(target_file or rendering.TARGET))
    files = rendering.write_pair(made, file or Path(f"{rendering.name_of(plan, type_name)}.ipynb"))
    click.echo(json.dumps({"files": [*map(str, files)]}) if as_json else "\n".join(map(str, files)))


@commands.command(name="commits")
@click.option("--repository", required=True, type=click.Path(path_type=Path), help="A git repository.")
@click.option("--feature", required=True, help="The feature's id, as in its commits' messages.")
@click.option("--at", default="HEAD", show_default=True, metavar="REF", help="The branch, tag or commit to look at.")
@click.option("--branch", default="", metavar="NAME", help="Write the result as a new branch too.")
@click.option("--include", multiple=True, metavar="ID", help="A commit that is the feature's, whatever it says.")
@click.option("--exclude", multiple=True, metavar="ID", help="A commit that is not, though it names it.")
@json_option
def commits_command(repository: Path, feature: str, as_json: bool, **about: Any) -> None:
    """The commits of a feature, what is done with each, and the code without them; the checkout is only read."""
    found = commits.report(repository, feature, **about)
    click.echo(json.dumps(found.as_json()) if as_json else redact("\n".join(found.lines())))
    sys.exit(found.exit_code)


@commands.command(name="run")
@run_argument
@click.option("--approve", "approved", multiple=True, help="A digest that `runbook plan` printed.")
@click.option("--waive", default="", help="NAME: REASON of a check or step that may fail.")
@click.option("--take-over", default="", metavar="REASON", help="Take the target from a run that was left behind.")
@click.option("--choose", "chosen", default="", help="What is chosen now: NAME=value, NAME=value.")
@junit_option
@json_option
def run_command(
    run: Path, approved: tuple[str, ...], waive: str, take_over: str, chosen: str, junit_file: Path | None, as_json: bool
) -> None:
    """Execute a planned run, or resume one that was cut short, in its folder."""
    approval, error, outcome = _Approval(approved), None, None
    with written(junit_file, ROLLBACK) as write:
        opened = _with_a_type(run)
        _choose(opened, chosen)
        _waived(opened, waive)
        if take_over:
            lease.take_over(opened, take_over)
        try:
            outcome = conductor.carry_out(run, approval, {"WAIVE": waive}, _teller(as_json))
        except RunbookError as raised:
            error = raised
        try:
            ended = conductor.ending(opened, outcome, error)
        finally:
            opened.close_adapters()
        write([of_run(opened.context.plan, opened.journal.events(), ROLLBACK, error)])
    if approval.pending and not (ended and ended.down):
        ended = None  # the command that approves it comes next
    _end(opened, (error or outcome).exit_code, as_json, ended, approval.pending)  # type: ignore[union-attr]


@commands.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--from-target", "target_file", type=click.Path(path_type=Path), help="Read it from this target's database.")
@click.option("--verbose", is_flag=True, help="Print the banner and every step, too.")
@json_option
def status(run: Path | None, target_file: Path | None, verbose: bool, as_json: bool) -> None:
    """Show what happened, whether it is over, what was lost and what is pending, from the journal alone."""
    if target_file:
        name, events = mirror.read(load_target(target_file), run.name if run else "")
        state = replay(events)
        folder, plan = RunFolder(Path(name)), load_plan(lifecycle.recorded(state.opened["plan_file"]))
    elif run:
        folder, plan, state = lifecycle.read(run)
        events = Journal(folder.journal_path).events()
    else:
        raise click.UsageError("Name a run folder, or a target with --from-target.")
    if as_json:
        click.echo(json.dumps(_as_json(folder, state), default=vars))
    else:
        click.echo(redact(display.status(folder, plan, state, events, verbose=verbose).text))


@commands.command(name="list")
@click.argument("folder", type=click.Path(path_type=Path), default=ROOT / "outputs")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target: the records that it keeps, too.")
@json_option
def list_command(folder: Path, target_file: Path | None, as_json: bool) -> None:
    """List runs and rehearsals, newest first: when, type, target, outcome, how long, and how long services were down."""
    place = records.of_target(load_target(target_file), folder) if target_file else records.next_to(folder)
    found = listing.listed(folder, place)
    if as_json:
        click.echo(json.dumps(redact_values(found.as_json())))
        return
    click.echo(redact(display.table(str(folder), listing.HEAD, found.rows()).text))
    for path, why in found.unreadable.items():
        click.echo(redact(f"Cannot be read: {path}: {why}"), err=True)


@commands.command(name="diff")
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """Compare two runs step by step, as a rehearsal and an incident; each is a run folder, or the file of a record."""
    found = comparison.compared(listing.of_run(first), listing.of_run(second))
    if as_json:
        click.echo(json.dumps(redact_values(found.as_json())))
        return
    shown = display.table(f"{found.first} → {found.second}", comparison.HEAD, found.rows())
    click.echo(redact("\n".join([shown.text, *found.differs])))


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
        opened = mirror.take_up(target_file, run.name if run else "", to)
        before = opened.state.handovers[-1]["from"] if opened.state.handovers else opened.state.operator
    elif run:
        opened = _opened(run)
        before = mirror.hand_over(opened, to)
    else:
        raise click.UsageError("Name a run folder, or a target with --from-target.")
    opened.close_adapters()
    named = {"run": str(opened.folder.path), "from": before, "to": opened.state.operator}
    click.echo(
        json.dumps(named) if as_json else f"{named['run']}: handed over by {before or 'nobody named'} to {named['to']}."
    )


@commands.command(name="service-back")
@run_argument
@click.option("--approve", default="", help="The digest of the recovery path, as this command prints it.")
@json_option
def service_back_command(run: Path, approve: str, as_json: bool) -> None:
    """Show the recovery path to services that run in an allowed combination; with its digest, take it."""
    opened = _opened(run)
    try:
        offered = recovery.offer(opened)
        done, ended = recovery.walk(opened, offered, approve) if approve and offered.way.moves else ([], None)
        if ended:
            lifecycle.write_archive(opened)
    except RunbookError as error:
        _end(opened, error.exit_code, as_json, conductor.ending(opened, None, error))
    finally:
        opened.close_adapters()
    if as_json:
        moves = [vars(move) for move in offered.way.moves]
        facts = {"run": str(run), "digest": offered.digest, "moves": moves, "done": [d.step for d in done]}
        click.echo(json.dumps({**facts, "outcome": opened.state.outcome}))
        return
    click.echo(redact(display.recovery(offered.way, opened.context.plan, opened.state).text))
    if offered.previews:
        click.echo(redact(display.previews(offered.previewed, offered.previews).text))
    if ended:
        click.echo(redact(display.outcome(ended, opened.state).text))
    elif offered.way.moves:
        click.echo(f"\nTo take it: runbook service-back {run} --approve {offered.digest}")


@commands.command(name="undo")
@run_argument
@click.option("--step", default="", metavar="NAME", help="One step; else everything that the run did, newest first.")
@click.option("--approve", default="", help="The digest of the undo, as this command prints it.")
@json_option
def undo_command(run: Path, step: str, approve: str, as_json: bool) -> None:
    """Undo what a run did: first a preview, then, with its digest, the undo itself."""
    opened = _with_a_type(run)
    try:
        offered = undo.offer(opened, step, approve)
        approved = approve if as_json or approve else _asked(opened, display.undo(offered), offered.digest, offered.refused)
        done, ended = undo.walk(opened, offered, approved) if approved else ([], None)
        if approved:
            lifecycle.write_archive(opened)
            mirror.send(opened)
    finally:
        opened.close_adapters()
    if as_json:
        found = {"run": str(run), "digest": offered.digest, "steps": offered.steps, "refused": dict(offered.refused)}
        undone = [{"step": one.step, **one.outcome} for one in done]
        click.echo(json.dumps({**found, "undone": undone, "outcome": opened.state.outcome}, default=vars))
    elif approved:
        click.echo(redact("\n".join(display.done(one).text for one in done)))
        click.echo(redact(display.outcome(ended, opened.state).text) if ended else "Undone. The rest of the run stays.")
    else:
        click.echo(
            f"\nNothing was changed. To undo: runbook undo {run}{f' --step {step}' * bool(step)} --approve {offered.digest}"
        )
    sys.exit(ended.exit_code if ended else 3 if offered.refused and not approved else 0)


@commands.command()
@run_argument
@click.option("--reason", required=True, help="Why nobody will finish it; it stays on record.")
@json_option
def end(run: Path, reason: str, as_json: bool) -> None:
    """End a run that nobody will finish, and give its lease back; what it did stays until it is undone."""
    opened = _opened(run)
    try:
        ended = lifecycle.end(opened, reason)
        mirror.send(opened)
    finally:
        opened.close_adapters()
    lifecycle.write_archive(opened)
    click.echo(json.dumps(_as_json(opened.folder, opened.state), default=vars) if as_json else redact(ended.summary))


@commands.command()
@run_argument
@click.option("--debt", default="", help="Which one; else all that is pending.")
@click.option("--approve", default="", help="The digest of the preview, as this command prints it.")
@json_option
def purge(run: Path, debt: str, approve: str, as_json: bool) -> None:
    """Permanently delete the undo data that a run kept. Preview first, then `--approve DIGEST`."""
    opened = _opened(run)
    try:
        digest, previews = cleanup.preview(opened, debt, approve)
        if approve:
            cleanup.clean_up(opened, digest, approve, debt)
    finally:
        opened.close_adapters()
    if as_json:
        click.echo(json.dumps({"digest": digest, "previews": [vars(p) for p in previews], "paid": bool(approve)}))
    elif previews:
        click.echo(redact(display.previews(digest, previews).text))
        click.echo(
            "Cleaned up." if approve else f"\nThis cannot be undone. To clean up: runbook purge {run} --approve {digest}"
        )
    else:
        click.echo("This run has no pending cleanup.")


@commands.command()
@run_argument
@click.option("--waive", default="", metavar="NAME", help="A check that may be anything but PASS.")
@click.option("--reason", default="", help="Why it is waived; it stays on record.")
@junit_option
@json_option
def check(run: Path, waive: str, reason: str, junit_file: Path | None, as_json: bool) -> None:
    """Make the whole checklist of a run again, and judge the run by it; the target is only looked at."""
    with written(junit_file, ROLLBACK) as write:
        opened = _with_a_type(run)
        if waive or reason:
            opened.waive(waive, reason)
        try:
            by_hand.look(opened)
            found = lifecycle.verify(opened)
            outcome = lifecycle.close(opened)
        finally:
            opened.close_adapters()
        lifecycle.write_archive(opened)
        write([of_run(opened.context.plan, opened.journal.events(), ROLLBACK)])
    if not as_json:
        click.echo(redact(display.results(found, "Verification", opened.state.waivers).text))
        click.echo(redact(display.outcome(outcome, opened.state).text))
    _end(opened, outcome.exit_code, as_json)


@commands.command()
@run_argument
@click.option("-o", "file", type=click.Path(path_type=Path), help="Where to write it, in place of printing it.")
@json_option
def sheet(run: Path, file: Path | None, as_json: bool) -> None:
    """What a person does by hand in place of a planned RUN, as Markdown: commands and SQL; the target is not touched."""
    from runbook_lib.ui import sheet as sheets

    register_environment()
    folder, plan, state = lifecycle.read(run)
    lifecycle.require_same_plan(state)
    made = sheets.sheet(folder, plan, state, Journal(folder.journal_path).events())
    if file:
        sheets.write(made, file)
    if as_json:
        click.echo(json.dumps(made.as_json() | ({"file": str(file)} if file else {})))
    else:
        click.echo(str(file) if file else made.markdown())


@commands.group()
def journal() -> None:
    """Put on record what was done without the runbook."""


@journal.command()
@run_argument
@click.option("--step", required=True, metavar="NAME", help="The step that it took the place of.")
@click.option("--done", "result", flag_value="done", help="It was done, as far as the person saw.")
@click.option("--failed", "result", flag_value="failed", help="It failed, or was left half done.")
@click.option("--note", required=True, help="What was done, and what was seen.")
@click.option("--operator", required=True, help="Who did it.")
@click.option("--at", default="", metavar="TIME", help="When, as 2026-05-01T03:20:00+02:00; else now.")
@json_option
def add(run: Path, step: str, result: Literal["done", "failed"] | None, as_json: bool, **about: str) -> None:
    """Record what a person did from the sheet; no step is done by that: `runbook run` and `check` look themselves."""
    if result is None:
        raise click.UsageError("Say --done or --failed.")
    state = by_hand.record(run, step, result, about["note"], about["operator"], about["at"])
    kept = state.by_hand[-1]
    said = f"On record: {kept['title']}: {kept['result']} by hand, by {kept['by']}. What is there, `runbook check` finds."
    click.echo(json.dumps({"run": str(run), "by_hand": kept}) if as_json else redact(said))


@commands.command()
@run_argument
@json_option
def pause(run: Path, as_json: bool) -> None:
    """Have the step that acts now wait before its next batch, until `resume` or `abort`."""
    _request(run, "pause", "waits before its next batch", as_json)


@commands.command()
@run_argument
@json_option
def resume(run: Path, as_json: bool) -> None:
    """Resume a step that was paused."""
    _request(run, "resume", "is resumed", as_json)


@commands.command()
@run_argument
@json_option
def abort(run: Path, as_json: bool) -> None:
    """Have the step that acts now end before its next batch; `runbook run` goes on from there."""
    _request(run, "abort", "ends before its next batch", as_json)


@commands.command()
@run_argument
@json_option
def verify(run: Path, as_json: bool) -> None:
    """Check the seal of an archived run: every file, and the journal's chain."""
    from runbook_lib import report

    problems = [str(problem) for problem in report.verify(run)]
    if as_json:
        click.echo(json.dumps({"run": str(run), "intact": not problems, "problems": problems}))
    else:
        click.echo("\n".join(problems) or f"{run}: every file is as it was sealed. The seal is not signed.")
    sys.exit(3 if problems else 0)


def _opened(folder: Path) -> Run:
    """Open a run for one command, after which an intact seal is renewed where the command has journaled anything."""
    opened = lifecycle.open_existing(folder)
    if lifecycle.is_sealed(opened):
        click.get_current_context().call_on_close(lambda: lifecycle.seal_again(opened))
    return opened


def _with_a_type(folder: Path) -> Run:
    opened = _opened(folder)
    if not opened.context.type:
        raise ParametersError(
            "This run has no rollback type yet.", state="Nothing was changed.", safe_next="Choose one in 01-triage."
        )
    return opened


def _waived(run: Run, waive: str) -> Run:
    """Record a waiver given as NAME: REASON, where one is given."""
    if waive:
        run.waive(*named_reason(waive, run.waivable()))
    return run


def _choose(run: Run, chosen: str) -> None:
    """Record what was chosen as NAME=value, NAME=value.

    Raises:
        ParametersError: There is no such choice, or no such value of it; nothing was recorded.
    """
    wanted, known = approval.read(chosen), run.details() if chosen else {}
    approval.require_known(wanted, known)
    for name, value in wanted.items():
        approval.require_known([value], known[name][0], f"a value of {name}")
    for name, value in wanted.items():
        run.choose(name, value, "parameter")


def _rehearsed(asked: Asked, file: Path | None, verbose: bool, as_json: bool, write: Write) -> int:
    from runbook_lib.rehearsal import record
    from runbook_lib.rehearsal.junit import of_migration
    from runbook_lib.rehearsal.migration import in_words

    report = _teller(as_json)
    found = asked.executed(file) if file else asked.rehearsed(report)
    write(of_migration(found))
    click.echo(json.dumps(found.as_json()) if as_json else "\n".join(in_words(found, verbose=verbose)))
    if file and not as_json:
        click.echo(f"The executed notebook: {file}")
    if found.exit_code == 0:
        record.keep_migration(asked.migrations, asked.plan, asked.option, found.catalog, found.seconds, report)
    return found.exit_code


def _matrix(rows: int, stack_name: str, as_json: bool, write: Write) -> int:
    from runbook_lib.rehearsal import junit, rehearse
    from runbook_lib.rehearsal.stack_file import named

    plan = load_plan(named(stack_name).plan_file)
    lines = rehearse.matrix(rows, _teller(as_json), stack_name)
    wrong = rehearse.problems(plan, lines)
    write(junit.of_matrix(plan, lines))
    if as_json:
        click.echo(json.dumps({"lines": [vars(line) for line in lines], "problems": wrong}, default=dict))
    else:
        click.echo("\n".join([rehearse.shown(plan, lines).text, *wrong]))
    return 3 if wrong else 0


def _request(run: Path, request: Request, said: str, as_json: bool) -> None:
    opened = _opened(run)
    try:
        title = opened.request(request)
    finally:
        opened.close_adapters()
    click.echo(
        json.dumps({"run": str(opened.folder.path), "step": title, "wanted": request}) if as_json else f"“{title}” {said}."
    )


def _teller(as_json: bool) -> Report:
    if as_json:
        return lambda _: None
    from rich.console import Console  # here, since it is slow to load

    return to_console(Console())


class _Approval:
    """Asks for the approval on a terminal; elsewhere only a digest named beforehand counts."""

    def __init__(self, approved: tuple[str, ...]) -> None:
        self.approved = approved
        self.pending: dict[str, Any] = {}  # the preview that nobody has approved, and the command that does
        self._given: set[str] = set()  # asked again after one of these, it no longer covers what is there

    def __call__(self, run: Run) -> str:
        state, steps = run.state, set(run.steps)
        named = [d for d in self.approved if set(state.previews.get(d, ())) == steps and d not in self._given]
        if named and (named[-1] != state.approved or run.is_still_approved()):
            self._given.add(named[-1])
            return named[-1]
        run.prerequisites()
        digest, found = run.previews()
        if digest in self.approved:
            return digest
        shown = display.previews(digest, found, run.dry_run_of_ddl(digest), run.foreseen(digest), run.state.waivers)
        click.echo(redact(shown.text), err=True)
        run.require_approvable(digest)
        if self.approved or not sys.stdin.isatty():
            self.pending = {
                "digest": digest,
                "loses": redact_values({preview.step: preview.loses for preview in found if preview.loses}),
                "previews": redact_values([asdict(preview) for preview in found]),
                "command": f"runbook run {run.folder.path} --approve {digest}",
            }
            return ""
        answer = run.context.target.name
        typed = click.prompt(f"Type {answer} to carry this out, anything else to leave", default="", show_default=False)
        return digest if typed.strip() == answer else ""


def _asked(run: Run, shown: display.Shown, digest: str, refused: Mapping[str, str]) -> str:
    """Show a preview; on a terminal, ask whether to go ahead: the digest where the target's name is typed, else ""."""
    click.echo(redact(shown.text))
    if refused or not sys.stdin.isatty():
        return ""
    answer = run.context.target.name
    typed = click.prompt(f"Type {answer} to go ahead, anything else to leave", default="", show_default=False)
    return digest if typed.strip() == answer else ""


def _end(
    run: Run, code: int, as_json: bool, ended: conductor.Ending | None = None, pending: Mapping[str, Any] | None = None
) -> NoReturn:
    if as_json:
        more = {**({"approval": pending} if pending else {}), **(ended.as_json() if ended else {}), "exit_code": code}
        click.echo(json.dumps({**_as_json(run.folder, run.state), **more}, default=vars))
        sys.exit(code)
    click.echo(f"Report: {run.folder.path / 'report.html'}")
    if pending:
        click.echo(f"Not approved: preview {pending['digest']} above. To approve it: {pending['command']}", err=True)
    if ended:
        click.echo(f"\n{ended.text}", err=True)
    sys.exit(code)


def _as_json(folder: RunFolder, state: RunState) -> dict[str, Any]:
    return {
        "run": str(folder.path),
        "type": state.type,
        "steps": state.steps,
        "checks": state.checks.get("after", {}),
        "waivers": state.waivers,
        "by_hand": state.by_hand,
        "debts": state.pending,
        "outcome": state.outcome,
    }
