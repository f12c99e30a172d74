"""Which way of clearing a backfill suits a table: a pure decision, with its reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

FEW = 0.02  # share of rows up to which going by key is quickest
MANY_KEPT = 0.3  # share of rows that differ from a cleared one, above which filling them costs more than clearing in place

STRATEGIES = {
    "auto": "the one that suits best",
    "swap": "a cleared column takes the place of the old one, which is kept; two short locks",
    "batched": "in place, in short transactions over ranges of pages",
    "keyed": "in place, by key, for few rows",
}


@dataclass(frozen=True)
class Circumstances:
    """What the choice depends on; numbers of rows are of the whole table."""

    rows: int
    affected: int
    kept: int  # rows that will not hold what a cleared row holds, NULLs included
    touches: bool  # whether each changed row's time of change is to be touched
    hanging: tuple[str, ...]  # what hangs on the column and would not follow to a new one
    stopped: bool  # whether nobody else uses the table meanwhile


@dataclass(frozen=True)
class Choice:
    """A strategy, why, and why each refused one is out of the question."""

    strategy: str
    because: str
    refused: Mapping[str, str]


def choose(found: Circumstances, wanted: str = "auto") -> Choice:
    """The strategy for these circumstances; one that the engineer wants is refused only where it cannot be. Pure."""
    refused = _refused(found)
    if wanted != "auto":
        return Choice(wanted, "chosen by the engineer", refused)
    share, kept = _share(found.affected, found), _share(found.kept, found)
    if share <= FEW:
        return Choice("keyed", f"{share:.1%} of the rows are affected: few", refused)
    if "swap" in refused:
        return Choice("batched", f"{share:.0%} of the rows are affected, and swap is out: {refused['swap']}", refused)
    if not found.stopped:
        return Choice("batched", f"{share:.0%} of the rows are affected, and the application is live", refused)
    if kept > MANY_KEPT:
        return Choice("batched", f"{kept:.0%} of the rows would have to be filled in a new column", refused)
    return Choice("swap", f"{share:.0%} of the rows are affected, {kept:.1%} keep a value of their own", refused)


def _refused(found: Circumstances) -> dict[str, str]:
    reasons = ["every changed row's time of change is to be touched"] if found.touches else []
    reasons += found.hanging
    return {"swap": "; ".join(reasons)} if reasons else {}


def _share(rows: int, found: Circumstances) -> float:
    return rows / found.rows if found.rows else 0.0
