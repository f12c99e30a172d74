"""The waves of a fleet: who is rolled back in which. Pure."""

from collections.abc import Sequence
from math import ceil

from runbook_lib.config.fleet import REST


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


def _count(size: int | str, of: int) -> int:
    return size if isinstance(size, int) else ceil(float(size.rstrip(" %")) * of / 100)
