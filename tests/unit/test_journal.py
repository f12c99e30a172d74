import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.errors import JournalError
from runbook_lib.journal import GENESIS, Journal
from runbook_lib.journal.event import Event, Fact, HandedOver, Noted
from runbook_lib.redaction import HIDDEN, register


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "journal.jsonl")
    for number in range(4):
        journal.append("noted", text=f"note {number}")
    return journal


def lines(journal: Journal) -> list[bytes]:
    return journal.path.read_bytes().splitlines(keepends=True)


def test_a_journal_that_is_not_there_holds_no_events(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.jsonl").events() == []


def test_events_come_back_as_they_were_appended(journal: Journal) -> None:
    assert [(event.seq, event.kind, event.data["text"]) for event in journal.events()] == [
        (n + 1, "noted", f"note {n}") for n in range(4)
    ]


def test_events_appended_in_one_go_are_one_chain_with_the_others(journal: Journal) -> None:
    added = journal.append_all([("noted", {"text": "first"}), ("noted", {"text": "second"})])

    assert journal.events()[-2:] == added
    assert Journal(journal.path).events() == journal.events()


def test_each_event_holds_the_hash_of_the_one_before(journal: Journal) -> None:
    events = journal.events()
    assert [event.previous for event in events] == [GENESIS, *(event.hash for event in events[:-1])]


def test_a_fact_may_have_any_name(tmp_path: Path) -> None:
    facts = {"title": "Rows", "file": "rows.json", "kind": "table"}
    assert Journal(tmp_path / "journal.jsonl").append("evidence", **facts).data == facts


@pytest.mark.parametrize(
    ("kind", "facts"),
    [("something-new", {}), ("noted", {}), ("noted", {"text": "x", "colour": "red"})],
    ids=["unknown kind", "a fact lacks", "another fact"],
)
def test_only_what_is_declared_is_written(journal: Journal, kind: str, facts: dict[str, str]) -> None:
    before = journal.path.read_bytes()

    with pytest.raises(TypeError, match=kind):
        journal.append(kind, **facts)

    assert journal.path.read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "facts", "fact", "text"),
    [
        ("noted", {"text": "x", "colour": "red"}, Noted("x"), "x"),
        ("handed-over", {"from": "Dana", "to": "Kim"}, HandedOver("Dana", "Kim"), "from Dana to Kim"),
        ("something-new", {"x": 1}, None, '{"x": 1}'),
        ("noted", {"words": "x"}, None, '{"words": "x"}'),
    ],
    ids=["another fact", "a word of Python", "unknown kind", "a fact lacks"],
)
def test_what_another_version_wrote_is_read(kind: str, facts: dict[str, str], fact: Fact | None, text: str) -> None:
    event = Event(1, "2025-11-03T12:00:00+00:00", kind, facts, GENESIS, GENESIS)

    assert (event.fact, event.text) == (fact, text)


def test_a_changed_line_is_detected(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes().replace(b"note 1", b"note X"))
    with pytest.raises(JournalError, match="line 2"):
        journal.events()


def test_a_changed_time_is_detected(journal: Journal) -> None:
    changed = lines(journal)
    entry = json.loads(changed[2])
    changed[2] = json.dumps(entry | {"at": "2020-01-01T00:00:00.000+00:00"}).encode() + b"\n"
    journal.path.write_bytes(b"".join(changed))
    with pytest.raises(JournalError, match="line 3"):
        journal.events()


def test_a_removed_line_is_detected(journal: Journal) -> None:
    kept = lines(journal)
    del kept[1]
    journal.path.write_bytes(b"".join(kept))
    with pytest.raises(JournalError, match="line 2"):
        journal.events()


def test_an_inserted_line_is_detected(journal: Journal) -> None:
    kept = lines(journal)
    journal.path.write_bytes(b"".join([*kept[:2], kept[1], *kept[2:]]))
    with pytest.raises(JournalError, match="line 3"):
        journal.events()


def test_nothing_is_appended_to_a_broken_chain(journal: Journal) -> None:
    broken = journal.path.read_bytes().replace(b"note 1", b"note X")
    journal.path.write_bytes(broken)
    with pytest.raises(JournalError):
        journal.append("noted", text="more")
    assert journal.path.read_bytes() == broken


def test_half_a_line_left_by_a_crash_is_passed_over(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes() + b'{"seq":5,"at":"20')
    assert len(journal.events()) == 4


def test_the_journal_continues_after_half_a_line(journal: Journal) -> None:
    journal.path.write_bytes(journal.path.read_bytes() + b'{"seq":5,"at":"20')
    journal.append("noted", text="after the crash")
    assert [event.data["text"] for event in journal.events()][-2:] == ["note 3", "after the crash"]


def _append(path: Path, ready: "multiprocessing.synchronize.Barrier", name: str) -> None:
    ready.wait()
    for number in range(20):
        Journal(path).append("noted", text=f"{name}{number}")


def test_two_processes_append_to_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path, ready = tmp_path / "journal.jsonl", context.Barrier(2)
    workers = [context.Process(target=_append, args=(path, ready, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    texts = [event.data["text"] for event in Journal(path).events()]
    assert sorted(texts) == sorted(f"{name}{number}" for name in "ab" for number in range(20))


def test_a_registered_secret_never_reaches_the_disk(tmp_path: Path) -> None:
    secret = register("Gx7!journal-secret")
    event = Journal(tmp_path / "journal.jsonl").append("noted", text=f"it was {secret}")
    assert event.data["text"] == f"it was {HIDDEN}"
    assert secret.encode() not in (tmp_path / "journal.jsonl").read_bytes()


def test_a_missing_directory_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be written") as error:
        Journal(tmp_path / "gone" / "journal.jsonl").append("noted", text="x")
    assert error.value.safe_next


def test_nothing_of_an_event_stays_that_the_disk_takes_only_in_part(journal: Journal) -> None:
    before = journal.path.read_bytes()
    program = f"""
import resource
from pathlib import Path
from runbook_lib.errors import JournalError
from runbook_lib.journal import Journal
most = {len(before) + 50}  # the next line is longer
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    Journal(Path({str(journal.path)!r})).append("noted", text="does not fit")
except JournalError as error:
    print(error.what)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)

    assert "cannot be written" in done.stdout
    assert journal.path.read_bytes() == before
    assert journal.append("noted", text="there is room again").seq == 5
