"""Whatever a command adds to a run after its outcome, the seal holds; what anybody else adds breaks it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.command_line import Planned, ended, planned
from ..support.stacks import up


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planned]:
    """A run that ended verified, and was sealed."""
    with up("none") as stack, planned(stack, tmp_path_factory.mktemp("run")) as plan:
        assert plan.go().returncode == 0
        yield plan


def intact(plan: Planned) -> bool:
    return ended(plan.started("verify", str(plan.folder))).returncode == 0


COMMANDS = {
    "a preview": (["run", "--approve", "0123456789abcdef"], 1),
    "a recovery path": (["service-back"], 0),
    "a handover": (["handover", "--to", "Kim"], 0),
    "what can be purged": (["purge"], 0),
    "the final checks": (["check"], 0),
    "what can be undone": (["undo"], 0),
}


@pytest.mark.parametrize(("words", "code"), COMMANDS.values(), ids=COMMANDS)
def test_the_seal_holds_after(verified: Planned, words: list[str], code: int) -> None:
    before = len(verified.run.journal.events())
    command, *options = words

    done = ended(verified.started(command, str(verified.folder), *options))

    assert done.returncode == code, done.stdout + done.stderr
    assert len(verified.run.journal.events()) >= before
    assert intact(verified)


def test_a_broken_seal_is_not_renewed_by_a_preview(verified: Planned) -> None:
    sealed = json.loads((verified.folder / "manifest.json").read_text())
    log: Path = verified.folder / "rollback-log.md"
    genuine = log.read_text()
    log.write_text(genuine + "\nAll is well.\n")

    ended(verified.started("run", str(verified.folder), "--approve", "0123456789abcdef"))

    assert not intact(verified)
    assert json.loads((verified.folder / "manifest.json").read_text()) == sealed
    log.write_text(genuine)
    assert ended(verified.started("check", str(verified.folder))).returncode == 0  # which seals what it has judged
