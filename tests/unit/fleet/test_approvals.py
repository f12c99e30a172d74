"""What a later preview and approval leave of an earlier one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from runbook_lib.fleet import FleetState, replay
from runbook_lib.journal import Journal

WAVES = [["a", "b", "c"]]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A fleet of three targets."""
    targets = {name: {"run": f"runs/{name}/run", "server": "", "labels": {}} for name in WAVES[0]}
    about = dict.fromkeys(("fleet", "file", "plan", "type", "option", "operator", "reason", "incident"), "x")
    made = Journal(tmp_path / "fleet.jsonl")
    made.append("fleet-opened", **about, count=3, production=False, targets=targets, waves=WAVES, clock={})
    return made


def approved(journal: Journal, digest: str, ready: Mapping[str, str], held: Mapping[str, str]) -> FleetState:
    """The state after a preview and its approval."""
    counts = {"ready": len(ready), "held": len(held)}
    journal.append("fleet-previewed", digest=digest, **counts, digests=ready, held_back=held)
    journal.append("fleet-approved", digest=digest, by="Ann")
    return replay(journal.events())


def test_a_target_that_a_later_preview_leaves_out_stays_approved(journal: Journal) -> None:
    approved(journal, "first", {"a": "1", "b": "2"}, {"c": "no such column"})

    assert approved(journal, "second", {"c": "3"}, {}).ready == {"a": "1", "b": "2", "c": "3"}


def test_a_target_that_a_later_preview_holds_back_is_not_approved(journal: Journal) -> None:
    approved(journal, "first", {"a": "1", "b": "2"}, {"c": "no such column"})

    assert approved(journal, "second", {"c": "3"}, {"b": "it drifted"}).ready == {"a": "1", "c": "3"}


def test_a_preview_that_nobody_approved_approves_nothing(journal: Journal) -> None:
    journal.append("fleet-previewed", digest="first", ready=1, held=0, digests={"a": "1"}, held_back={})

    assert replay(journal.events()).ready == {}
