"""The command line: one library call a command."""

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
from runbook_lib.fleet import FleetRun, is_fleet, open_existing, open_new
from runbook_lib.fleet.commands import fleet
from runbook_lib.fleet.commands import show as fleet_status
from runbook_lib.fleet.listing import of_fleet
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
from runbook_lib.ui import display, mirror, plan_summary, run_summary, terminal
from runbook_lib.ui.progress import Report, to_console

if TYPE_CHECKING:
    from runbook_lib.rehearsal.executed import Asked

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
junit_option = click.option(
    "--junit", "junit_file", type=click.Path(path_type=Path), help="Write each step and check to this JUnit XML file."
)
verbose_option = click.option("--verbose", is_flag=True, help="Print all details too: previews, checks, locks.")
CODES = "Exit codes: 0 success or verified, 1 declined, 2 wrong use, 3 failed, 4 unknown."


def _with_example(command: str) -> str:
    """An epilog: a command to type, and the exit codes."""
    return f"\b\nExample:\n  $ {command}\n\n{CODES}"


WIDTH = 120  # of YAML that is printed
run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group(epilog=CODES)
def commands() -> None:
    """Roll back a release: rehearse, plan, run and verify."""
    redact_output()


commands.add_command(fleet)


def main() -> None:
    """Run the command line; an error of the runbook is a message and an exit code, never a traceback."""
    settle()
    redact_output()
    atexit.register(gc.freeze)  # what is left in memory goes with the process: the interpreter need not search it
    try:
        with _errors_of_the_system_named():
            commands(standalone_mode=False, terminal_width=terminal.width())
    except RunbookError as error:
        if "--json" in sys.argv:
            click.echo(json.dumps({"error": redact(str(error)), "exit_code": error.exit_code}))
        else:
            click.echo(terminal.wrapped(str(error)), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--json" in sys.argv:
            click.echo(json.dumps({"error": error.format_message(), "exit_code": error.exit_code}))
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. The journal holds what was done. Repeat the command to resume.", err=True)
        sys.exit(4)


@contextmanager
def _errors_of_the_system_named() -> Iterator[None]:
    """Report a full disk, or a file without permission, as any other error."""
    try:
        yield
    except OSError as error:
        raise RunbookError(
            f"The operating system refused: {error}.",
            state="The journal holds what was done.",
            safe_next="Free space or correct the permissions there, then repeat the command.",
        ) from error


@commands.command(epilog=_with_example("runbook rehearse --before schema.sql --migration V42.sql"))
@click.option("--scenario", default="", help="The fault, or all. [default: all-media-missing; none with --plan]")
@click.option("--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows of the sample's table.")
@click.option(
    "--stack", "stack_name", default="sample", show_default=True, help="sample, node, compose, or your stack file."
)
@click.option("--matrix", is_flag=True, help="Compare each fault of the decision matrix with each row's check.")
@click.option("--before", type=click.Path(path_type=Path), help="A script or dump of the database before the migration.")
@click.option(
    "--migration", "migrations", type=click.Path(path_type=Path), multiple=True, help="The migration's script; repeatable."
)
@click.option("--use", type=click.Path(path_type=Path), help="A script of what users wrote after the migration.")
@click.option("--keep", default="", metavar="DSN", help="Work in this empty database and keep the result.")
@click.option("--server", default="", metavar="DSN", help="Use this server instead of an embedded one.")
@click.option("--option", default="", help="data-only (A) or data-and-schema (B). [default: every change]")
@click.option(
    "--plan",
    "plan_file",
    type=click.Path(path_type=Path),
    help="The plan of --stack, or the plan with decisions for the migration.",
)
@click.option("--notebook", "file", type=click.Path(path_type=Path), help="Execute as a notebook and write it here.")
@click.option("--verbose", is_flag=True, help="Print the SQL statements too.")
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
    """Rehearse a rollback on a disposable stack, or of any migration.

    By default, start the sample stack, break it, roll it back and verify it. With --plan and --stack, do so with your
    release; parameters/stack.example.yaml describes a stack. With --before and --migration, no stack is needed: apply the
    migration to scratch databases, roll it back, verify that, undo the rollback, and apply the migration again.
    """
    if bool(before) != bool(migrations) or (not before and (use or keep or server or option or file)):
        raise click.UsageError(
            "Name both --before and --migration; --use, --keep, --server, --option and --notebook need them."
        )
    if keep and server:
        raise click.UsageError("--keep names the server already: omit --server.")
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
            found = own.rehearse(plan_file, stack_name, named, rows, _reporter(as_json))
        else:
            found = rehearse.rehearse(named, rows, _reporter(as_json), stack_name)
        write(junit.of_rehearsed(found))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found]))
    sys.exit(max(one.exit_code for one in found))


@commands.command(epilog=_with_example("runbook draft --feature SHOP-42 --before schema.sql --migration V42.sql"))
@click.option("--feature", default="", metavar="ID", help="The feature's id, which names the files. [default: the plan's]")
@click.option(
    "-o", "file", type=click.Path(path_type=Path), help="Draft a whole plan of --target or --stack and write it here."
)
@click.option("--before", type=click.Path(path_type=Path), help="A script or dump of the database before the migration.")
@click.option(
    "--migration", "migrations", type=click.Path(path_type=Path), multiple=True, help="The migration's script; repeatable."
)
@click.option(
    "--server", default="", metavar="DSN", help="Use this server of the target's version instead of an embedded one."
)
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="The plan with decisions and migrations.")
@click.option(
    "--target", "target_file", type=click.Path(path_type=Path), help="The target whose checkout has the migrations."
)
@click.option("--stack", default="", metavar="STACK", help="Start this stack for a whole plan, instead of a target.")
@click.option(
    "--repository", type=click.Path(path_type=Path), help="The checkout with the migrations, instead of a target's."
)
@click.option("--folder", default=".", type=click.Path(path_type=Path), help="The folder to write to.")
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
    """Draft how a plan takes back what migrations changed, or a whole plan.

    Without --migration, the plan's migration tool provides the SQL. Without --before, the target recovers the earlier state
    to a point in time. Writes ID.changes.yaml for review, and ID.states.zip, which holds the rows of BEFORE: protect it like
    a backup.

    With -o and --target, draft a whole plan: commits, migrations and their tool, services, and checks. The target is only
    read. A decision that a person must make is null and stops the plan. With -o and --stack, draft the plan of a release
    that is not deployed yet, on a stack started for it.
    """
    if file:
        if bool(target_file) is bool(stack) or not feature or plan_file or repository:
            raise click.UsageError(
                "-o drafts a whole plan: name --feature and either --target or --stack, without --plan and --repository."
            )
        if stack and (before or migrations or server):
            raise click.UsageError(
                "--stack has its own server, earlier state and migrations: omit --server, --before and --migration."
            )
        require_extra("rehearsal")
        from runbook_lib.drafting import on_stack, whole

        report = _reporter(as_json)
        if target_file:
            target, given = load_target(target_file), {"before": before, "scripts": migrations, "server": server}
            drafted = whole.draft(target, feature, file, **given, folder=folder, report=report)  # type: ignore[arg-type]
        else:
            drafted = on_stack.draft(stack, feature, file, folder=folder, report=report)
        click.echo(json.dumps(drafted.as_json()) if as_json else terminal.wrapped("\n".join(drafted.lines())))
        sys.exit(drafted.exit_code)
    if stack:
        raise click.UsageError("--stack drafts a whole plan: name its file with -o.")
    place = repository or (load_target(target_file) if target_file else None)
    if not migrations and not (plan_file and place):
        raise click.UsageError(
            "Name the scripts with --migration; or name --plan, and the checkout with --target or --repository."
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
        made = drafting.make(named, before, migrations, server, folder, _reporter(as_json), decide)
    if as_json:
        click.echo(json.dumps({"file": str(made.file), "sha256": made.sha256, **made.draft.model_dump()}))
    else:
        click.echo(terminal.wrapped("\n".join(drafting.in_words(made))))
    sys.exit(made.exit_code)


@commands.command(epilog=_with_example("runbook init --folder ."))
@click.option("--folder", default=".", show_default=True, type=click.Path(path_type=Path), help="Your repository.")
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Write target, stack and CI files for a repository; existing files stay."""
    from runbook_lib.init import writing

    made = writing.init(folder)
    click.echo(json.dumps(made.as_json()) if as_json else terminal.wrapped("\n".join(made.lines())))


@commands.command(epilog=_with_example("runbook lab RUN --no-browser"))
@click.argument("run", required=False, metavar="[RUN|FLEET]", type=click.Path(path_type=Path))
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="The plan file.")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="The target file.")
@click.option("--rehearsal", is_flag=True, help="Game day: use a disposable stack with a fault.")
@click.option("--scenario", default="all-media-missing", show_default=True, help="The fault of the game day.")
@click.option(
    "--rows", default=20_000, show_default=True, type=click.IntRange(min=200), help="Rows of the game day's table."
)
@click.option("--type", "type_name", default="", help="The rollback type of a new run. [default: triage asks]")
@click.option("--option", default="", help="The option of --type. [default: the notebook asks]")
@click.option("--operator", default="", help="Your name.")
@click.option("--reason", default="", help="The reason, for the rollback log.")
@click.option("--incident", default="", help="The incident number.")
@click.option("--waive", default="", help="Accept a prerequisite that is not PASS, as 'NAME: REASON'.")
@click.option("--browser/--no-browser", default=True, help="Open the link in a browser.")
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
    """Open a new run, RUN or FLEET in JupyterLab; Ctrl-C stops JupyterLab.

    Opens the triage notebook, or the rollback notebook where the type is known. For a fleet, name its file or its folder.
    """
    from runbook_lib.lab import server

    def opened(run: Run | FleetRun, link: str) -> None:
        if as_json:
            click.echo(json.dumps({"run": str(run.folder.path), "link": link}), file=in_clear(sys.stdout))
        else:
            click.echo(f"Run {run.folder.path}\nOpen {link}\nCtrl-C ends it.", file=in_clear(sys.stdout))
        if browser:
            server.show(link)

    if sum([rehearsal, run is not None, plan_file is not None and target_file is not None]) != 1:
        raise click.UsageError("Name --plan and --target, or a run to resume, or --rehearsal.")
    if (about["option"] and not about["type_name"]) or (run and about["type_name"]):
        raise click.UsageError("--type needs a new run, and --option needs --type.")
    try:
        if rehearsal:
            server.game_day(scenario, rows, opened, **about)
        elif run and (run.is_file() or is_fleet(run)):
            server.seat_fleet(_fleet(run, waive, about), opened)
        elif run:
            server.seat(_waived(lifecycle.open_existing(run, about["operator"]), waive), opened)
        elif plan_file and target_file:
            server.seat(_waived(server.begin(plan_file, target_file, **about), waive), opened)
    except KeyboardInterrupt:  # the usual end of this command
        click.echo("JupyterLab stopped, with everything it started.", err=True)


def _fleet(place: Path, waive: str, about: Mapping[str, str]) -> FleetRun:
    """The fleet of a folder, or a new one of a fleet file, with a waiver on every target."""
    require_extra("lab")
    run = (
        open_existing(place)
        if is_fleet(place)
        else open_new(place, operator=about["operator"], reason=about["reason"], incident=about["incident"])
    )
    if waive:
        run.waive(waive, about["operator"] or str(run.state.opened["operator"]))
    return run


@commands.command(epilog=_with_example("runbook plan --plan plan.yaml --target target.yaml --type full --option A"))
@click.option("--plan", "plan_file", required=True, type=click.Path(path_type=Path), help="The plan file.")
@click.option("--target", "target_file", required=True, type=click.Path(path_type=Path), help="The target file.")
@click.option("--type", "type_name", required=True, help="The rollback type, such as frontend or full.")
@click.option("--option", default="A", show_default=True, help="The option of the type.")
@click.option("--choose", "chosen", default="", help="Other choices, as NAME=value, NAME=value.")
@click.option("--operator", default="", help="Your name.")
@click.option("--reason", default="", help="The reason, for the rollback log.")
@click.option("--incident", default="", help="The incident number.")
@verbose_option
@json_option
def plan(
    plan_file: Path, target_file: Path, type_name: str, chosen: str, verbose: bool, as_json: bool, **about: str
) -> None:
    """Preview every step of a rollback without changing the target."""
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
        click.echo(f"{terminal.shown(found.banner)}\n\n{found.summary}")
        if verbose:
            click.echo(f"\n{terminal.details(found.details)}")
        execute = f"Digest {found.digest}; nothing was changed. To execute it:"
        execute += f"\nrunbook run {run.folder.path} --approve {found.digest}"
        click.echo("\n" + terminal.wrapped(str(refusal or execute)))
    sys.exit(refusal.exit_code if refusal else 0)


@commands.command(name="check-plan", epilog=_with_example("runbook check-plan plan.yaml --target target.yaml"))
@click.argument("plan_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target file to check with the plan.")
@click.option(
    "--resolved", "--verbose", "whole", is_flag=True, help="Print the whole plan as YAML, inherited parts included."
)
@json_option
def check_plan(plan_file: Path, target_file: Path | None, whole: bool, as_json: bool) -> None:
    """Check a plan and print its types, steps and checks; contacts no target."""
    plan = load_plan(plan_file)
    if target_file:
        pair(plan, load_target(target_file), target_file)
    if as_json:
        click.echo(json.dumps(summary.as_json(plan) | ({"plan": resolved(plan_file)} if whole else {})))
    elif whole:
        click.echo(yaml.safe_dump(resolved(plan_file), sort_keys=False, allow_unicode=True, width=WIDTH), nl=False)
    else:
        click.echo(terminal.wrapped("\n".join(summary.lines(plan))))


@commands.command(epilog=_with_example("runbook notebook --plan plan.yaml --type full -o rollback.ipynb"))
@click.option("--plan", "plan_file", required=True, type=click.Path(path_type=Path), help="The plan file.")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="A target file to check with the plan.")
@click.option("--type", "type_name", required=True, help="The rollback type, such as frontend or full.")
@click.option("--option", default="", help="Include only the steps of this option. [default: all]")
@click.option(
    "-o", "file", type=click.Path(path_type=Path), help="The file to write. [default: named by the plan, in this folder]"
)
@json_option
def notebook(
    plan_file: Path, target_file: Path | None, type_name: str, option: str, file: Path | None, as_json: bool
) -> None:
    """Render a rollback notebook from a plan, with a text copy for review."""
    from runbook_lib.headless import rendering

    plan = load_plan(plan_file)
    if target_file:
        pair(plan, load_target(target_file), target_file)
    made = rendering.rendered(plan, type_name, option, str(plan_file), str(target_file or rendering.TARGET))
    files = rendering.write_pair(made, file or Path(f"{rendering.name_of(plan, type_name)}.ipynb"))
    click.echo(json.dumps({"files": [*map(str, files)]}) if as_json else "\n".join(map(str, files)))


@commands.command(name="commits", epilog=_with_example("runbook commits --repository backend --feature SHOP-42"))
@click.option("--repository", required=True, type=click.Path(path_type=Path), help="A git repository.")
@click.option("--feature", required=True, help="The feature's id, as in its commit messages.")
@click.option("--at", default="HEAD", show_default=True, metavar="REF", help="The branch, tag or commit to read.")
@click.option("--branch", default="", metavar="NAME", help="Also write the result as a new branch.")
@click.option("--include", multiple=True, metavar="ID", help="Count this commit as the feature's.")
@click.option("--exclude", multiple=True, metavar="ID", help="Do not count this commit as the feature's.")
@json_option
def commits_command(repository: Path, feature: str, as_json: bool, **about: Any) -> None:
    """List the commits of a feature and how each is reverted; only reads."""
    found = commits.report(repository, feature, **about)
    click.echo(json.dumps(found.as_json()) if as_json else terminal.wrapped("\n".join(found.lines())))
    sys.exit(found.exit_code)


@commands.command(name="run", epilog=_with_example("runbook run RUN --approve DIGEST"))
@run_argument
@click.option("--approve", "approved", multiple=True, help="The digest that `runbook plan` printed.")
@click.option("--waive", default="", help="Accept a check or step that is not PASS, as 'NAME: REASON'.")
@click.option("--take-over", default="", metavar="REASON", help="Take the target's lease from an abandoned run.")
@click.option("--choose", "chosen", default="", help="Choices, as NAME=value, NAME=value.")
@verbose_option
@junit_option
@json_option
def run_command(
    run: Path,
    approved: tuple[str, ...],
    waive: str,
    take_over: str,
    chosen: str,
    verbose: bool,
    junit_file: Path | None,
    as_json: bool,
) -> None:
    """Execute a planned run, or resume an interrupted one."""
    approval, error, outcome = _Approval(approved, verbose), None, None
    with written(junit_file, ROLLBACK) as write:
        opened = _with_a_type(run)
        _choose(opened, chosen)
        _waived(opened, waive)
        if take_over:
            lease.take_over(opened, take_over)
        said, print_line = list[str](), _reporter(as_json)

        def report(line: str) -> None:
            said.append(line)
            print_line(line)

        try:
            outcome = conductor.carry_out(run, approval, {"WAIVE": waive}, report)
        except RunbookError as raised:
            error = raised
        try:
            ended = conductor.ending(opened, outcome, error)
        finally:
            opened.close_adapters()
        write([of_run(opened.context.plan, opened.journal.events(), ROLLBACK, error)])
    if approval.pending and not (ended and ended.down):
        ended = None  # the command that approves it comes next
    ended_as = run_summary.outcome(opened.state)
    if not as_json and ended_as and ended_as not in said:
        click.echo(terminal.wrapped(ended_as))
    _end(opened, (error or outcome).exit_code, as_json, ended, approval.pending)  # type: ignore[union-attr]


@commands.command(epilog=_with_example("runbook status RUN"))
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option(
    "--from-target",
    "target_file",
    type=click.Path(path_type=Path),
    help="Read the journal's copy in this target's database.",
)
@click.option("--verbose", is_flag=True, help="Print the banner and every step, too.")
@json_option
def status(run: Path | None, target_file: Path | None, verbose: bool, as_json: bool) -> None:
    """Show what happened, whether it is over, what was lost and what is pending, from the journal alone."""
    if run and not target_file and is_fleet(run):
        fleet_status(run, as_json)
        return
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
        click.echo(terminal.shown(display.status(folder, plan, state, events, verbose=verbose)))


@commands.command(name="list", epilog=_with_example("runbook list outputs"))
@click.argument("folder", type=click.Path(path_type=Path), default=ROOT / "outputs")
@click.option("--target", "target_file", type=click.Path(path_type=Path), help="Include the records that this target keeps.")
@json_option
def list_command(folder: Path, target_file: Path | None, as_json: bool) -> None:
    """List runs and rehearsals, newest first, with outcome, duration and outage."""
    place = records.of_target(load_target(target_file), folder) if target_file else records.next_to(folder)
    found = listing.listed(folder, place, of_fleet)
    if as_json:
        click.echo(json.dumps(redact_values(found.as_json())))
        return
    click.echo(terminal.table(str(folder), listing.HEAD, found.rows()))
    for path, why in found.unreadable.items():
        click.echo(terminal.wrapped(f"Cannot be read: {path}: {why}"), err=True)


@commands.command(name="diff", epilog=_with_example("runbook diff REHEARSAL RUN"))
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def diff_command(first: Path, second: Path, as_json: bool) -> None:
    """Compare two runs step by step; each is a run folder or a record file."""
    found = comparison.compared(listing.of_run(first), listing.of_run(second))
    if as_json:
        click.echo(json.dumps(redact_values(found.as_json())))
        return
    click.echo(terminal.table(f"{found.first} → {found.second}", comparison.HEAD, found.rows()))
    click.echo(terminal.wrapped("\n".join(found.differs)), nl=bool(found.differs))


@commands.command(epilog=_with_example("runbook handover RUN --to Bob"))
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--to", required=True, help="The engineer who continues the run.")
@click.option(
    "--from-target",
    "target_file",
    type=click.Path(path_type=Path),
    help="Continue here, from the journal's copy in this target's database.",
)
@json_option
def handover(run: Path | None, to: str, target_file: Path | None, as_json: bool) -> None:
    """Hand over a run to another engineer; the journal records both names."""
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
    text = f"{named['run']}: handed over from {before or 'nobody named'} to {named['to']}."
    click.echo(json.dumps(named) if as_json else terminal.wrapped(text))


@commands.command(name="service-back", epilog=_with_example("runbook service-back RUN"))
@run_argument
@click.option("--approve", default="", help="The digest that this command printed.")
@json_option
def service_back_command(run: Path, approve: str, as_json: bool) -> None:
    """Show how to get services running again; with --approve DIGEST, do it."""
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
    click.echo(terminal.shown(display.recovery(offered.way, opened.context.plan, opened.state)))
    if offered.previews:
        click.echo(f"\nPreview {offered.previewed}; nothing was changed.\n{plan_summary.steps_text(offered.previews)}")
    if ended:
        click.echo(terminal.shown(display.outcome(ended, opened.state)))
    elif offered.way.moves:
        click.echo(terminal.wrapped(f"\nTo take it:\nrunbook service-back {run} --approve {offered.digest}"))


@commands.command(name="undo", epilog=_with_example("runbook undo RUN"))
@run_argument
@click.option("--step", default="", metavar="NAME", help="Undo only this step. [default: every step, newest first]")
@click.option("--approve", default="", help="The digest that this command printed.")
@json_option
def undo_command(run: Path, step: str, approve: str, as_json: bool) -> None:
    """Preview the undo of a run; with --approve DIGEST, undo it."""
    opened = _with_a_type(run)
    try:
        offered = undo.offer(opened, step, approve)
        approved = approve if as_json or approve else _asked(opened, offered)
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
        click.echo("\n".join(terminal.shown(display.done(one)) for one in done))
        click.echo(terminal.shown(display.outcome(ended, opened.state)) if ended else "Undone. The rest of the run stays.")
    else:
        command = f"runbook undo {run}{f' --step {step}' * bool(step)} --approve {offered.digest}"
        click.echo(terminal.wrapped(f"\nDigest {offered.digest}; nothing was changed. To undo:\n{command}"))
    sys.exit(ended.exit_code if ended else 3 if offered.refused and not approved else 0)


@commands.command(epilog=_with_example('runbook end RUN --reason "The release was fixed instead."'))
@run_argument
@click.option("--reason", required=True, help="Why nobody will finish the run; the journal records it.")
@json_option
def end(run: Path, reason: str, as_json: bool) -> None:
    """End a run that nobody will finish, and release its lease; its changes stay."""
    opened = _opened(run)
    try:
        ended = lifecycle.end(opened, reason)
        mirror.send(opened)
    finally:
        opened.close_adapters()
    lifecycle.write_archive(opened)
    click.echo(
        json.dumps(_as_json(opened.folder, opened.state), default=vars) if as_json else terminal.wrapped(ended.summary)
    )


@commands.command(epilog=_with_example("runbook purge RUN"))
@run_argument
@click.option("--debt", default="", help="Only this item. [default: all pending cleanup]")
@click.option("--approve", default="", help="The digest that this command printed.")
@json_option
def purge(run: Path, debt: str, approve: str, as_json: bool) -> None:
    """Preview a run's pending cleanup; with --approve DIGEST, delete the undo data for good."""
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
        click.echo(plan_summary.cleanup_text(digest, previews))
        ask = f"\nThis cannot be undone. To clean up:\nrunbook purge {run} --approve {digest}"
        click.echo("Cleaned up." if approve else terminal.wrapped(ask))
    else:
        click.echo("This run has no pending cleanup.")


@commands.command(epilog=_with_example("runbook check RUN"))
@run_argument
@click.option("--waive", default="", metavar="NAME", help="Accept this check though it is not PASS.")
@click.option("--reason", default="", help="Why the check is waived; the journal records it.")
@junit_option
@json_option
def check(run: Path, waive: str, reason: str, junit_file: Path | None, as_json: bool) -> None:
    """Repeat all checks of a run and update its outcome; only reads the target."""
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
        click.echo(terminal.details(display.results(found, "Verification", opened.state.waivers)))
        click.echo(terminal.shown(display.outcome(outcome, opened.state)))
    _end(opened, outcome.exit_code, as_json)


@commands.command(epilog=_with_example("runbook sheet RUN -o by-hand.md"))
@run_argument
@click.option("-o", "file", type=click.Path(path_type=Path), help="Write to this file instead of printing.")
@json_option
def sheet(run: Path, file: Path | None, as_json: bool) -> None:
    """Print the commands and SQL to execute a planned run by hand, as Markdown."""
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
    """Record work that was done without the runbook."""


@journal.command(
    epilog=_with_example('runbook journal add RUN --step stop-services --done --note "All are down." --operator Ann')
)
@run_argument
@click.option("--step", required=True, metavar="NAME", help="The step that was done by hand.")
@click.option("--done", "result", flag_value="done", help="The work succeeded, as far as the person saw.")
@click.option("--failed", "result", flag_value="failed", help="The work failed or is half done.")
@click.option("--note", required=True, help="What was done and seen.")
@click.option("--operator", required=True, help="Who did the work.")
@click.option("--at", default="", metavar="TIME", help="When, as 2026-05-01T03:20:00+02:00. [default: now]")
@json_option
def add(run: Path, step: str, result: Literal["done", "failed"] | None, as_json: bool, **about: str) -> None:
    """Record that a step was done by hand.

    This does not mark the step as done: `runbook run` and `runbook check` verify it themselves.
    """
    if result is None:
        raise click.UsageError("Name --done or --failed.")
    state = by_hand.record(run, step, result, about["note"], about["operator"], about["at"])
    kept = state.by_hand[-1]
    said = f"Recorded: {kept['title']}: {kept['result']} by hand, by {kept['by']}. Verify it with `runbook check`."
    click.echo(json.dumps({"run": str(run), "by_hand": kept}) if as_json else terminal.wrapped(said))


@commands.command(epilog=_with_example("runbook pause RUN"))
@run_argument
@json_option
def pause(run: Path, as_json: bool) -> None:
    """Pause the current step before its next batch, until `resume` or `abort`."""
    _request(run, "pause", "pauses before its next batch", as_json)


@commands.command(epilog=_with_example("runbook resume RUN"))
@run_argument
@json_option
def resume(run: Path, as_json: bool) -> None:
    """Resume a step that was paused."""
    _request(run, "resume", "is resumed", as_json)


@commands.command(epilog=_with_example("runbook abort RUN"))
@run_argument
@json_option
def abort(run: Path, as_json: bool) -> None:
    """Abort the current step before its next batch; `runbook run` resumes it."""
    _request(run, "abort", "ends before its next batch", as_json)


@commands.command(epilog=_with_example("runbook verify RUN"))
@click.argument("run")
@json_option
def verify(run: str, as_json: bool) -> None:
    """Verify the seal of a run, or of a fleet with its runs: every file and the journal's hash chain; RUN may be a URL."""
    from runbook_lib import report
    from runbook_lib.fleet import archive, fetched

    with fetched.folder(run, whole=True) as path:
        problems = [str(problem) for problem in (archive.verify(path) if is_fleet(path) else report.verify(path))]
    if as_json:
        click.echo(json.dumps({"run": run, "intact": not problems, "problems": problems}))
    else:
        but = " A URL shows no modes and owners of files." if fetched.is_url(run) else ""
        intact = f"{run}: every file is as it was sealed. The seal is not signed.{but}"
        click.echo(terminal.wrapped("\n".join(problems) or intact))
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
    choices, known = approval.read(chosen), run.details() if chosen else {}
    approval.require_known(choices, known)
    for name, value in choices.items():
        approval.require_known([value], known[name][0], f"a value of {name}")
    for name, value in choices.items():
        run.choose(name, value, "parameter")


def _rehearsed(asked: Asked, file: Path | None, verbose: bool, as_json: bool, write: Write) -> int:
    from runbook_lib.rehearsal import record
    from runbook_lib.rehearsal.junit import of_migration
    from runbook_lib.rehearsal.migration import in_words

    report = _reporter(as_json)
    found = asked.executed(file) if file else asked.rehearsed(report)
    write(of_migration(found))
    click.echo(json.dumps(found.as_json()) if as_json else terminal.wrapped("\n".join(in_words(found, verbose=verbose))))
    if file and not as_json:
        click.echo(f"The executed notebook: {file}")
    if found.exit_code == 0:
        record.keep_migration(asked.migrations, asked.plan, asked.option, found.catalog, found.seconds, report)
    return found.exit_code


def _matrix(rows: int, stack_name: str, as_json: bool, write: Write) -> int:
    from runbook_lib.rehearsal import junit, rehearse
    from runbook_lib.rehearsal.stack_file import named

    plan = load_plan(named(stack_name).plan_file)
    lines = rehearse.matrix(rows, _reporter(as_json), stack_name)
    wrong = rehearse.problems(plan, lines)
    write(junit.of_matrix(plan, lines))
    if as_json:
        click.echo(json.dumps({"lines": [vars(line) for line in lines], "problems": wrong}, default=dict))
    else:
        click.echo("\n".join([terminal.shown(rehearse.shown(plan, lines)), *wrong]))
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


def _reporter(as_json: bool) -> Report:
    if as_json:
        return lambda _: None
    from rich.console import Console  # here, since it is slow to load

    return to_console(Console())


class _Approval:
    """Asks for the approval on a terminal; elsewhere only a digest named beforehand counts."""

    def __init__(self, approved: tuple[str, ...], verbose: bool) -> None:
        self.approved = approved
        self.verbose = verbose
        self.pending: dict[str, Any] = {}  # the preview that nobody has approved, and the command that does
        self._given: set[str] = set()  # asked again after one of these, it no longer covers what is there

    def __call__(self, run: Run) -> str:
        state, steps = run.state, set(run.steps)
        named = [d for d in self.approved if set(state.previews.get(d, ())) == steps and d not in self._given]
        if named and (named[-1] != state.approved or run.is_still_approved()):
            self._given.add(named[-1])
            return named[-1]
        prerequisites = run.prerequisites()
        digest, found = run.previews()
        if digest in self.approved:
            return digest
        tried, foreseen, waived = run.dry_run_of_ddl(digest), run.foreseen(digest), run.state.waivers
        click.echo(plan_summary.text(run.context.plan, found, prerequisites, foreseen, tried, waived), err=True)
        if self.verbose:
            click.echo(terminal.details(display.previews(digest, found, tried, foreseen, waived)), err=True)
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
        typed = click.prompt(f"Type {answer} to execute this, anything else to stop", default="", show_default=False)
        return digest if typed.strip() == answer else ""


def _asked(run: Run, offered: undo.Offer) -> str:
    """Show an undo; on a terminal, ask whether to go ahead: its digest where the target's name is typed, else ""."""
    click.echo(plan_summary.undo_text(offered))
    if offered.refused or not sys.stdin.isatty():
        return ""
    answer = run.context.target.name
    typed = click.prompt(f"Type {answer} to undo this, anything else to stop", default="", show_default=False)
    return offered.digest if typed.strip() == answer else ""


def _end(
    run: Run, code: int, as_json: bool, ended: conductor.Ending | None = None, pending: Mapping[str, Any] | None = None
) -> NoReturn:
    if as_json:
        more = {**({"approval": pending} if pending else {}), **(ended.as_json() if ended else {}), "exit_code": code}
        click.echo(json.dumps({**_as_json(run.folder, run.state), **more}, default=vars))
        sys.exit(code)
    click.echo(terminal.wrapped("\n".join(run_summary.lines(run))))
    if pending:
        text = f"Not approved: preview {pending['digest']} above; nothing of it was executed. To approve and execute it:"
        click.echo(terminal.wrapped(f"{text}\n{pending['command']}"), err=True)
    if ended:
        services = [terminal.shown(ended.recovery)] if ended.recovery else [terminal.wrapped(ended.services)]
        click.echo("\n".join(["", terminal.wrapped(ended.reason), *filter(None, services), *_next(ended.next)]), err=True)
    sys.exit(code)


def _next(command: str) -> list[str]:
    """A command, or what a person must do, as the last line; nothing where there is neither."""
    return [terminal.wrapped(command)] if command else []


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
