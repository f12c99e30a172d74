from itertools import count
from pathlib import Path

import pytest

from runbook_lib.rehearsal.workspace import StackError, until, until_healthy


def test_until_returns_whether_the_condition_came_true() -> None:
    tries = count()
    assert until(lambda: next(tries) == 2, 5)
    assert not until(lambda: False, 0)


def test_a_healthy_service_is_waited_for(tmp_path: Path) -> None:
    tries = count()
    until_healthy(lambda: next(tries) == 2, 5, "backend", lambda: True, tmp_path / "log")


@pytest.mark.parametrize(("alive", "what"), [(False, "ended while starting"), (True, "did not become healthy within 0 s")])
def test_an_unhealthy_service_is_reported_with_the_end_of_its_log(tmp_path: Path, alive: bool, what: str) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(20)))
    with pytest.raises(StackError) as raised:
        until_healthy(lambda: False, 0, "backend", lambda: alive, log)
    assert raised.value.what == f"backend {what}:\n" + "\n".join(f"line {number}" for number in range(10, 20))
