"""Entries that users edited since a backfill: listed in a file, decided there row by row."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import ParametersError
from runbook_lib.folder import RunFolder

FILE = "edited-rows.csv"
HEAD = ["key", "edited", "as written by the backfill", "decision"]
MOST = 100_000  # rows that a person can be asked about at all
DECISIONS = ("keep", "clear")


@dataclass(frozen=True)
class Decisions:
    """What was decided of the rows with edited entries."""

    clear: tuple[str, ...]
    keep: int
    undecided: int


def write(folder: RunFolder, rows: Iterable[dict[str, Any]]) -> None:
    """Write the list to be decided, unless it is there. Changes the run folder only.

    Raises:
        ParametersError: There are more rows than a person can decide.
    """
    if (folder.path / FILE).exists():
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(HEAD)
    for number, row in enumerate(rows):
        if number >= MOST:
            raise ParametersError(
                f"More than {MOST} rows hold edited entries: too many to decide one by one.",
                state="Nothing was touched.",
                safe_next="Choose `edited: keep` or `edited: clear` in the plan.",
            )
        table.writerow([row["key"], json.dumps(row["edited"], ensure_ascii=False), json.dumps(row["written"]), ""])
    folder.write_text(FILE, text.getvalue())


def read(folder: RunFolder) -> Decisions:
    """What stands in the file by now. Read-only.

    Raises:
        ParametersError: A decision is neither keep nor clear, or the file is not as it was written.
    """
    with open(folder.path / FILE, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    wrong = [row for row in rows[1:] if len(row) != len(HEAD) or row[3].strip() not in (*DECISIONS, "")]
    if rows[:1] != [HEAD] or wrong:
        raise ParametersError(
            f"{FILE} cannot be read: " + (f"the row {wrong[0]}" if wrong else "its first line was changed") + " is wrong.",
            where=str(folder.path / FILE),
            state="Nothing was touched.",
            safe_next=f"Write {' or '.join(DECISIONS)} into the last column, and change nothing else.",
        )
    told = [(row[0], row[3].strip()) for row in rows[1:]]
    return Decisions(
        tuple(key for key, decision in told if decision == "clear"),
        sum(decision == "keep" for _, decision in told),
        sum(decision == "" for _, decision in told),
    )
