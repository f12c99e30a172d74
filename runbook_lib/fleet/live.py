"""The board of a fleet in a terminal, drawn by rich: a row a target, colour and word; without a terminal a line an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO

from runbook_lib.fleet import FleetRun, board
from runbook_lib.redaction import redact

WIDTH = 100


@contextmanager
def watched(run: FleetRun) -> Iterator[Callable[[], object]]:
    """What draws the board again each time it is called, until the block ends."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console()

    def drawn() -> Group:
        state, standings = run.state, run.standings()
        lines = board.headline(state, standings)
        return Group(Text("\n".join(lines)), _table(board.BOARD, board.board_rows(state, standings)))

    if not console.is_terminal:
        known = {name: each.word for name, each in run.standings().items()}

        def line() -> None:
            for name, each in run.standings().items():
                if known[name] != each.word:
                    known[name] = each.word
                    print(redact(f"{name}: {each.word}" + (f": {each.reason}" if each.reason else "")), flush=True)

        yield line
        return
    with Live(drawn(), console=console, refresh_per_second=2, transient=True) as live:
        yield lambda: live.update(drawn())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text, at most 100 columns wide."""
    from rich.console import Console

    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None).print(_table(head, rows))
    return text.getvalue().rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]):  # type: ignore[no-untyped-def]  # rich is slow to load
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for name in head:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text(redact(cell), style=board.COLOURS.get(cell, "")) for cell in row))
    return made
