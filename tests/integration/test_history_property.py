"""Over random histories: the feature's lines are gone and everybody else's are there, or it was asked or refused."""

import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runbook_lib.git import Checkout
from runbook_lib.history.commits import make, take_back
from runbook_lib.history.decision import Status
from runbook_lib.system.processes import LocalProcesses

from ..support.histories import FEATURE, MAIN, History
from ..support.history_moves import UNUSUAL, USUAL, history

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MOST_ASKED = 0.05  # of the histories in which nothing is ambiguous


def histories(kinds: int, salt: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Histories of all lengths and kinds in equal shares: Hypothesis prefers some numbers. Another salt gives others."""

    def steps(seed: int) -> list[tuple[int, int, int]]:
        random = Random(seed ^ salt)
        return [
            (random.randrange(kinds), random.randrange(1000), random.randrange(1000)) for _ in range(random.randint(10, 30))
        ]

    return st.integers(0, 2**32 - 1).map(steps)


def taken_back(made: History) -> tuple[Status, str, list[tuple[str, str]]]:
    """What came of it, why, and the lines that are there then, each with its file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "bare.git")
        made.writes(path)
        repository = Checkout(path, LocalProcesses())
        found = take_back(repository, FEATURE, repository.resolved(MAIN))
        if found.status in (Status.ASK, Status.REFUSED):
            return found.status, found.refused.because if found.refused else found.asks[0].why, []
        clone = repository.scratch(Path(directory, "clone"), found.tip)
        _, refused = make(found, clone, "runbook", AT)
        if refused:
            return Status.REFUSED, refused.because, []
        files = [file for file in clone.path.rglob("*") if file.is_file() and ".git" not in file.parts]
        lines = [(str(f.relative_to(clone.path)), line) for f in files for line in f.read_text().splitlines()]
        return found.status, "", lines


def examine(seen: Counter[str], steps: list[tuple[int, int, int]]) -> None:
    made = history(steps)
    status, why, lines = taken_back(made)
    seen["ambiguous " * bool(made.ambiguous) + status] += 1
    if status in (Status.ASK, Status.REFUSED):
        assert why
        return
    assert sorted(lines) == sorted(made.expected())
    assert (status is Status.READY) == made.is_in_effect()


def examine_many(number: int, kinds: int, asked: float, salt: int = 0) -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=number,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(histories(kinds, salt))
    def each(steps: list[tuple[int, int, int]]) -> None:
        examine(seen, steps)

    each()
    clear = {status: count for status, count in seen.items() if not status.startswith("ambiguous")}
    share = (clear.get(Status.ASK, 0) + clear.get(Status.REFUSED, 0)) / sum(clear.values())
    print(f"{sum(seen.values())} histories, 0 wrong; {dict(sorted(seen.items()))}; {share:.1%} asked or refused where clear")
    assert share <= asked


def test_a_hundred_histories_of_what_teams_do_end_right() -> None:
    examine_many(100, len(USUAL), MOST_ASKED)


def test_unusual_histories_end_right_or_are_asked_about() -> None:
    examine_many(50, len(USUAL) + len(UNUSUAL), 1.0)


@pytest.mark.slow
def test_another_150_histories_end_right() -> None:
    examine_many(120, len(USUAL), MOST_ASKED, salt=1)
    examine_many(30, len(USUAL) + len(UNUSUAL), 1.0, salt=1)
