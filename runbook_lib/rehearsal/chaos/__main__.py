"""Kills rollbacks on disposable stacks: python -m runbook_lib.rehearsal.chaos."""

import sys

import click

from runbook_lib.config.installed import require_extra
from runbook_lib.errors import RunbookError
from runbook_lib.rehearsal.chaos.campaign import chaos, summary
from runbook_lib.rehearsal.chaos.points import TRIALS


@click.command()
@click.option("--seed", default=1, show_default=True, help="Decides the order of the cases and the random moments.")
@click.option("--from", "first", default=1, show_default=True, type=click.IntRange(min=1), help="The first case's number.")
@click.option("--cases", "count", default=None, type=click.IntRange(min=1), help="How many; else all that follow.")
@click.option("--trial", "names", multiple=True, type=click.Choice(list(TRIALS)), help="Only these rollbacks; else all.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="How many stacks at a time.")
def main(seed: int, first: int, count: int | None, names: tuple[str, ...], workers: int) -> None:
    """Kill a rollback at every event of its journal and in between, give its command again, and compare how it ends."""
    try:
        require_extra("rehearsal")
        judged = chaos(names or list(TRIALS), seed, first, count, workers, lambda line: print(line, flush=True))
    except RunbookError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    click.echo(summary(judged))
    sys.exit(0 if all(one.unaided for one in judged) else 3)


if __name__ == "__main__":
    main()
