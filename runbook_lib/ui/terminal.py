"""Lay out text and tables for a terminal or a log, in at most 100 columns."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from io import StringIO

from runbook_lib.redaction import redact
from runbook_lib.ui.display import Shown

WIDTH = 100  # columns of a log, and the most of a terminal
NARROWEST = 40
COMMAND = re.compile(r"\s*runbook \S")


def width() -> int:
    """The columns to print in: the terminal's, at most 100; 100 where the output is no terminal."""
    columns = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    return max(NARROWEST, min(WIDTH, columns))


def shown(what: Shown) -> str:
    """What `what` reads as, its tables with aligned columns, secrets redacted before a line is broken."""
    return _in_parts(what, table)


def details(what: Shown) -> str:
    """The same with a paragraph for each row, since the cells of details are long."""
    return _in_parts(what, _paragraphs)


def _in_parts(what: Shown, tabular: Callable[[str, Sequence[str], Sequence[Sequence[str]]], str]) -> str:
    parts = what.parts or (what.text,)
    return "\n".join(wrapped(p) if isinstance(p, str) else tabular(p.title, p.head, p.rows) for p in parts)


def _paragraphs(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(str(cell).replace("\n", "; ") for cell in row) for row in [head, *rows]]
    return "\n".join([wrapped(title), *(wrapped(f"  {line}") for line in lines)])


def wrapped(text: str, indent: str = "  ") -> str:
    """The text with long lines broken between words; what continues a line is indented further.

    A line that is a command is broken so that a shell still reads it as one.
    """
    return "\n".join(_wrapped(line, indent) for line in redact(text).splitlines())


def _wrapped(line: str, indent: str) -> str:
    columns = width()
    if len(line) <= columns:
        return line
    start = " " * (len(line) - len(line.lstrip()))
    options = {"break_long_words": False, "break_on_hyphens": False, "initial_indent": start}
    if COMMAND.match(line) and (pieces := _pieces(line.strip(), columns - len(start))):
        return start + f" \\\n{start}  ".join(pieces)
    return textwrap.fill(line.strip(), columns, subsequent_indent=start + indent, **options)  # type: ignore[arg-type]


def _pieces(command: str, columns: int) -> list[str]:
    """A command broken before each option, or between all its words where that is still too wide; nothing if it is none."""
    try:
        _, *words = shlex.split(command)
    except ValueError:  # prose with an apostrophe
        return []
    pieces = ["runbook"]
    for word in map(shlex.quote, words):
        longer = f"{pieces[-1]} {word}"
        if word.startswith("--") or len(longer) + len("   \\") > columns:
            pieces.append(word)
        else:
            pieces[-1] = longer
    return pieces


def cut(text: str, columns: int) -> str:
    """The text in so many columns, its end replaced by "…" where it is longer."""
    return text if len(text) <= columns else f"{text[: columns - 1].rstrip()}…"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], whole: Sequence[str] = ()) -> str:
    """A table as psql prints it, the text of wide cells broken; columns named in `whole` are never broken."""
    from rich import box  # here, since it is slow to load
    from rich.console import Console
    from rich.table import Table as Columns
    from rich.text import Text

    columns = Columns(box=box.ASCII, show_edge=False, pad_edge=False, header_style="")
    for name in head:
        columns.add_column(Text(name), overflow="fold", no_wrap=name in whole)
    for row in rows:
        columns.add_row(*(Text(redact(str(cell))) for cell in row))
    out = StringIO()
    Console(file=out, width=width() - 2, color_system=None, force_terminal=False, force_jupyter=False).print(columns)
    return "\n".join([wrapped(title), *(f"  {line}".rstrip() for line in out.getvalue().splitlines())])
