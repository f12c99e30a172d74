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
        lines += [board.ENDING] if state.interrupted else []
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
    known = {name: (each.word, bool(each.waits_since)) for name, each in run.standings().items()}
    requested, interrupted, refused = [run.state.request], [run.state.interrupted], set[str]()

    def line() -> None:
        for worker in [each for each in run.state.refused if each not in refused]:
            refused.add(worker)
            print(terminal.wrapped(f"Refused worker {worker} {run.state.refused[worker]}"), flush=True)
        if run.state.request != requested[-1]:
            requested.append(run.state.request)
            print(f"{run.state.opened['fleet']}: {requested[-1]} requested", flush=True)
        if run.state.interrupted != interrupted[-1]:
            interrupted.append(run.state.interrupted)
            print(terminal.wrapped(f"Interrupted by {interrupted[-1]}: no other target begins. {board.ENDING}"), flush=True)
        for name, each in run.standings().items():
            now = each.word, bool(each.waits_since)
            if known[name] != now:
                known[name] = now
                named = each.reason and (each.word in board.ATTENTION or each.waits_since)
                why = f": {terminal.cut(redact(each.reason), LONGEST)}" if named else ""
                print(terminal.wrapped(f"{name}: {each.word}{why}"), flush=True)

    return line
