"""A backup that is made or checked before the services stop, and how long users wait for one that is not."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ..support.bare import SERVICES, Bare, words

pytestmark = pytest.mark.newest


@pytest.fixture
def snapshots(target: Bare) -> Path:
    """Where the target's command makes its snapshots: each lists the services that ran then."""
    folder = target.root / "snapshots"
    folder.mkdir()
    make = f"ls {target.root / 'services'} > {folder}/$0"
    target.target["backups"]["snapshot"] = {
        "make": ["sh", "-c", make, "{name}"],
        "check": ["test", "-e", f"{folder}/{{name}}"],
    }
    return folder


def nightly(target: Bare, *, years_old: int = 0) -> Path:
    """A regular backup that the target relies on, made so long ago by its own header."""
    (backup,) = (target.root / "backups").iterdir()
    named = Path(shutil.copy(backup, backup.with_name("nightly_1.dump")))
    target.target["backups"]["fresh"] = {"pattern": "nightly_*.dump", "minutes": 60}
    was, is_now = (b"\0" + (datetime.now(UTC).year - 1900 - years).to_bytes(4, "little") for years in (0, years_old))
    content = named.read_bytes()
    named.write_bytes(content[:100].replace(was, is_now, 1) + content[100:])
    return named


def order(target: Bare) -> list[str]:
    """The steps of the run in the order in which they were done."""
    return [event.data["step"] for event in target.opened().journal.events() if event.kind == "applied"]


def own_dumps(target: Bare) -> list[Path]:
    return list((target.root / "backups").glob("before_rollback_*"))


def test_a_snapshot_is_made_before_the_first_service_is_stopped(target: Bare, snapshots: Path) -> None:
    said = words(target.planned().text)
    target.executed()

    (made,) = snapshots.iterdir()
    assert set(made.read_text().split()) == set(SERVICES)
    assert order(target)[:2] == ["back-up", "stop-services"]
    assert (target.status(), own_dumps(target)) == ("verified", [])
    assert "before the services are stopped, so users do not wait for it" in said


def test_a_snapshot_that_fails_stops_no_service(target: Bare, snapshots: Path) -> None:
    target.target["backups"]["snapshot"]["make"] = ["sh", "-c", "exit 7", "{name}"]
    target.planned()

    target.executed()

    assert target.running() == set(SERVICES)
    assert target.status() == "failed"
    assert list(snapshots.iterdir()) == []


def test_a_command_that_is_not_here_refuses_the_approval(target: Bare, snapshots: Path) -> None:
    target.target["backups"]["snapshot"]["make"] = ["no-such-program", "{name}"]

    planned = target.planned()

    assert planned.exit_code == 3
    assert "cannot be run from here: no-such-program" in words(planned.text)
    assert list(snapshots.iterdir()) == []


def test_a_fresh_backup_is_read_before_the_stop_and_no_dump_is_made(target: Bare) -> None:
    made = nightly(target)
    target.planned()

    target.executed()

    assert order(target)[:2] == ["back-up", "stop-services"]
    assert (target.status(), own_dumps(target)) == ("verified", [])
    assert target.opened().state.step("back-up").outcome["file"] == str(made)


def test_a_backup_that_is_too_old_refuses_the_approval(target: Bare) -> None:
    nightly(target, years_old=1)

    planned = target.planned()

    assert planned.exit_code == 3
    assert "minutes old, more than 60" in words(planned.text)


def test_the_preview_says_how_long_users_wait_or_that_it_is_not_known(target: Bare) -> None:
    first = words(target.planned().text)
    target.executed()

    second = words(target.planned().text)

    assert "the time is unknown: no earlier run here shows a rate" in first
    assert "MB/s as in run" in second
    assert "users wait about 1 s for it" in second
