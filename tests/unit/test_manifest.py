"""The seal of a run folder: files changed, added or removed since."""

import hashlib
import json

import pytest

from runbook_lib import report as archive
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder


@pytest.fixture
def sealed(folder: RunFolder) -> RunFolder:
    Journal(folder.journal_path).append("opened", type="full", option="A")
    folder.write_text("report.html", "<p>fine</p>")
    folder.write_text("evidence/rows.json", "[1]")
    archive.seal(folder)
    return folder


def files_with_problems(folder: RunFolder) -> set[str]:
    return {problem.file for problem in archive.verify(folder.path)}


def test_a_sealed_folder_is_intact(sealed: RunFolder) -> None:
    assert archive.verify(sealed.path) == []


def test_a_changed_file_is_found(sealed: RunFolder) -> None:
    (sealed.path / "evidence" / "rows.json").write_text("[2]")
    assert files_with_problems(sealed) == {"evidence/rows.json"}


def test_an_added_file_is_found(sealed: RunFolder) -> None:
    (sealed.path / "evidence" / "more.json").write_text("[]")
    assert files_with_problems(sealed) == {"evidence/more.json"}


def test_a_removed_file_is_found(sealed: RunFolder) -> None:
    (sealed.path / "report.html").unlink()
    assert files_with_problems(sealed) == {"report.html"}


def test_an_event_after_the_seal_is_found(sealed: RunFolder) -> None:
    Journal(sealed.journal_path).append("noted", text="late")
    assert any("event 3" in str(problem) for problem in archive.verify(sealed.path))


def test_a_journal_that_was_rewritten_is_found(sealed: RunFolder) -> None:
    sealed.journal_path.unlink()
    Journal(sealed.journal_path).append("opened", type="frontend", option="A")
    manifest = json.loads((sealed.path / "manifest.json").read_text())
    archive.seal(sealed)
    forged = json.loads((sealed.path / "manifest.json").read_text())
    sealed.write_json("manifest.json", forged | {"journal": manifest["journal"]})
    assert files_with_problems(sealed) == {"journal.jsonl"}


def test_a_broken_chain_is_found_though_the_hash_of_the_file_fits(sealed: RunFolder) -> None:
    Journal(sealed.journal_path).append("noted", text="second")
    archive.seal(sealed)
    sealed_head = Journal(sealed.journal_path).events()[-1]
    manifest = json.loads((sealed.path / "manifest.json").read_text())
    lines = sealed.journal_path.read_text().replace("second", "forged")
    sealed.journal_path.write_text(lines)
    manifest["files"]["journal.jsonl"] = hashlib.sha256(lines.encode()).hexdigest()
    sealed.write_json("manifest.json", manifest)
    assert manifest["journal"]["head"] == sealed_head.hash
    assert files_with_problems(sealed) == {"journal.jsonl"}


def test_a_second_seal_takes_the_place_of_the_first(sealed: RunFolder) -> None:
    Journal(sealed.journal_path).append("noted", text="late")
    archive.seal(sealed)
    assert archive.verify(sealed.path) == []


def test_a_folder_without_a_seal_is_not_intact(folder: RunFolder) -> None:
    assert files_with_problems(folder) == {"manifest.json"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3, "journal": {}}'])
def test_a_manifest_that_cannot_be_read_is_a_problem(sealed: RunFolder, content: str) -> None:
    (sealed.path / "manifest.json").write_text(content)
    assert files_with_problems(sealed) == {"manifest.json"}


def test_the_manifest_says_that_it_is_not_signed(sealed: RunFolder) -> None:
    manifest = json.loads((sealed.path / "manifest.json").read_text())
    assert manifest["signed"] is False
    assert "no proof against forgery" in manifest["note"]
