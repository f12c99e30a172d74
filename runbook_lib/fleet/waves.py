"""The waves of a fleet: who is rolled back in which. Pure."""

from collections.abc import Sequence
from math import ceil

from runbook_lib.config.fleet import REST

CANARIES = "canaries"  # what waives that a canary is rolled back before others


def waves(names: Sequence[str], canaries: Sequence[str], sizes: Sequence[int | str]) -> list[list[str]]:
    """Every name once, in waves: the canaries first, then waves of those sizes; a wave that would be empty is left out.

    >>> waves(["a", "b", "c", "d", "e"], ["d"], [1, "50 %", "rest"])
    [['d'], ['a'], ['b', 'c'], ['e']]
    """
    others = [name for name in names if name not in canaries]
    found, left = [[name for name in names if name in canaries]], others
    for size in sizes:
        count = len(left) if size == REST else _count(size, len(others))
        wave, left = left[:count], left[count:]
        found.append(wave)
    return [wave for wave in found if wave]


def first_alone(found: Sequence[Sequence[str]], shared: str) -> list[list[str]]:
    """The same waves, with the first target in a wave of its own; a wave of what all targets share stays first.

    >>> first_alone([["shared"], ["a", "b"], ["c"]], "shared")
    [['shared'], ['a'], ['b'], ['c']]
    """
    begin = 1 if found[0] == [shared] else 0
    names = [name for wave in found[begin : begin + 1] for name in wave]
    made = [*found[:begin], names[:1], names[1:], *found[begin + 1 :]]
    return [[*wave] for wave in made if wave]


def _count(size: int | str, of: int) -> int:
    return size if isinstance(size, int) else ceil(float(size.rstrip(" %")) * of / 100)
