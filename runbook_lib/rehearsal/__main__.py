"""Brings the stack up to play with: python -m runbook_lib.rehearsal."""

import shlex
import signal
import sys
from pathlib import Path

import click

from runbook_lib.config.installed import require_extra
from runbook_lib.errors import RunbookError
from runbook_lib.rehearsal import stack_file
from runbook_lib.rehearsal.stack import Stack, stack

FAULTS = stack_file.named(stack_file.SAMPLE).faults


@click.command(epilog=" ".join(f"{fault.name}: {fault.about}" for fault in FAULTS.values()))
@click.option("--rows", type=click.IntRange(min=1), default=20_000, show_default=True, help="Messages in the database.")
@click.option("--fault", type=click.Choice(list(FAULTS)), default="none", show_default=True)
@click.option("--stack", "name", type=click.Choice(stack_file.names()), default=stack_file.SAMPLE, show_default=True)
def main(rows: int, fault: str, name: str) -> None:
    """Bring a disposable stack up, keep it until Ctrl-C, take it down."""
    try:
        require_extra("rehearsal")
        with stack(rows, fault, name) as running:
            click.echo(_described(running, _write_environment(running)))
            signal.pause()
    except RunbookError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("The stack is down.")


def _write_environment(running: Stack) -> Path:
    file = running.root / "environment"
    file.touch(mode=0o600)
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in running.environment.items()))
    return file


def _described(running: Stack, environment: Path) -> str:
    return f"""\
Frontend     {running.environment["REHEARSAL_FRONTEND_URL"]}
Backend      {running.environment["REHEARSAL_BACKEND_URL"]}/health
Database     PGSERVICEFILE={running.environment["PGSERVICEFILE"]} psql service=rehearsal
Environment  . {environment}
Ctrl-C takes the stack down."""


if __name__ == "__main__":
    main()
