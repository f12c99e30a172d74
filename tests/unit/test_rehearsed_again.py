"""What is not as before a rollback once that is undone."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.rehearsal import again
from runbook_lib.rehearsal.again import Snapshot

WAS = Snapshot({}, {"orders": "2 7", "heartbeats": "1 1"}, {"shop": "a" * 40}, {"shop": "b" * 40})


def test_what_is_as_before_is_not_named() -> None:
    assert WAS.unlike(WAS, []) == []


def test_other_rows_are_named_but_those_that_services_write() -> None:
    later = replace(WAS, rows={"orders": "2 8", "heartbeats": "1 2"})

    assert WAS.changed(later) == ["orders", "heartbeats"]
    assert WAS.unlike(later, ["heartbeats"]) == ["orders holds other rows"]


def test_a_table_that_is_gone_holds_other_rows() -> None:
    assert WAS.unlike(replace(WAS, rows={"heartbeats": "1 1"}), []) == ["orders holds other rows"]


def test_another_commit_and_other_files_in_the_remote_are_named() -> None:
    later = replace(WAS, commits={"shop": "c" * 40}, pushed={"shop": "d" * 40})

    assert WAS.unlike(later, []) == [
        f"the checkout of shop is at {'c' * 12}, and was at {'a' * 12}",
        "the remote of shop holds other files",
    ]


def test_a_step_that_cannot_be_undone_is_named_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"push-shop": SimpleNamespace(title="Push shop")}
    run: Any = SimpleNamespace(context=SimpleNamespace(plan=SimpleNamespace(steps=steps)))
    refused = {"push-shop": "somebody pushed since"}
    monkeypatch.setattr(again.undo, "offer", lambda _: SimpleNamespace(refused=refused))
    said: list[str] = []
    up: Any = None

    found = again.Again()

    again.undo_rollback(run, up, again.Release(WAS, [], []), found, said.append)

    assert (found.not_undone, found.undone, found.problems) == ({"Push shop": "somebody pushed since"}, False, [])
    assert said == ["  cannot be undone: Push shop: somebody pushed since"]
