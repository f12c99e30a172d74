"""The board of a fleet while it is walked: drawn by rich in a terminal, elsewhere a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runbook_lib.fleet import FleetRun, board
from runbook_lib.redaction import redact
from runbook_lib.ui import terminal

LONGEST = 120  # characters of a reason on the board; `runbook fleet status` prints more


@contextmanager
def watched(run: FleetRun, dashboard: str = "") -> Iterator[Callable[[], object]]:
    """What shows each change of the fleet when it is called, until the block ends.

    Args:
        run: The fleet.
        dashboard: The address of the engine's own page, "" where it has none.
    """
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        yield _lines(run, dashboard)
        return

    def drawn() -> Group:
        state, standings = run.state, run.standings()
        lines = [*([f"Dask: {dashboard}"] if dashboard else []), *board.headline(state, standings)]
        table = Table(box=None, pad_edge=False, width=min(console.width, terminal.WIDTH))
        for name in board.BOARD:
            table.add_column(name, overflow="fold")
        for row in board.board_rows(state, standings):
            table.add_row(*(Text(terminal.cut(redact(cell), LONGEST), style=board.COLOURS.get(cell, "")) for cell in row))
        return Group(Text(terminal.wrapped("\n".join(lines))), table)

    with Live(drawn(), console=console, refresh_per_second=2, transient=True) as live:
        yield lambda: live.update(drawn())


def _lines(run: FleetRun, dashboard: str) -> Callable[[], object]:
    """Print a line for each target whose state changed, and for each request."""
    if dashboard:
        print(f"Dask: {dashboard}", flush=True)
    known: dict[str, str] = {name: each.word for name, each in run.standings().items()}
    requested, refused = [run.state.request], set[str]()

    def line() -> None:
        for worker in [each for each in run.state.refused if each not in refused]:
            refused.add(worker)
            print(terminal.wrapped(f"Refused worker {worker} {run.state.refused[worker]}"), flush=True)
        if run.state.request != requested[-1]:
            requested.append(run.state.request)
            print(f"{run.state.opened['fleet']}: {requested[-1]} requested", flush=True)
        for name, each in run.standings().items():
            if known[name] != each.word:
                known[name] = each.word
                why = (
                    f": {terminal.cut(redact(each.reason), LONGEST)}" if each.word in board.ATTENTION and each.reason else ""
                )
                print(terminal.wrapped(f"{name}: {each.word}{why}"), flush=True)

    return line
