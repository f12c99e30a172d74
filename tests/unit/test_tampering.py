"""Whatever is changed in a sealed run folder is noticed by `runbook verify`."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook_lib import report
from runbook_lib.cli import commands
from runbook_lib.journal import Journal
from runbook_lib.journal.control import ControlFile
from runbook_lib.journal.folder import RunFolder
from runbook_lib.report.manifest import VERSION

OLD_NOTE = "This manifest is not signed."


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A sealed folder with one file of each kind."""
    folder = RunFolder.create(tmp_path / "outputs", "INC-1", "full")
    filled(folder, version=VERSION)
    report.seal(folder)
    return folder.path


def filled(folder: RunFolder, **opened: Any) -> None:
    journal = Journal(folder.journal_path)
    journal.append("opened", type="full", option="A", **opened)
    journal.append("notebook-started", notebook="03-full-rollback", output="03-full-rollback.ipynb")
    journal.append("notebooks-prepared", directory="lab", notebooks=["01-triage"])
    for name in ("report.html", "rollback-log.md", "postmortem.md", "edited-rows.csv", "03-full-rollback.ipynb"):
        folder.write_text(name, f"the {name}")
    for name in ("lab/01-triage.ipynb", "evidence/rows.json", "evidence/build.txt", "salvage/manifest.json"):
        folder.write_text(name, "{}")
    folder.write_image("evidence/page-7-after.png", b"a picture")
    folder.write_image("salvage/public.messages.0a1b2c.copy.gz", b"rows")
    with folder.lock():
        pass


def verified(folder: Path) -> tuple[int, list[str]]:
    """The exit code of `runbook verify` and the problems it prints."""
    result = CliRunner().invoke(commands, ["verify", str(folder), "--json"])
    said = json.loads(result.output)
    assert said["intact"] is (result.exit_code == 0)
    return result.exit_code, said["problems"]


def with_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")

    return tamper


def removed_with_its_entry(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        (folder / name).unlink()
        with_manifest(lambda manifest: manifest["files"].pop(name))(folder)

    return tamper


def added_with_its_entry(folder: Path) -> None:
    private(folder / "evidence" / "more.json", "[]")
    digest = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    with_manifest(lambda manifest: manifest["files"].update({"evidence/more.json": digest}))(folder)


def private(path: Path, text: str = "x") -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


def linked(name: str, *, hard: bool = False) -> Callable[[Path], None]:
    """The same content, by a link to a copy outside."""

    def tamper(folder: Path) -> None:
        outside = folder.parent.parent / f"outside of {folder.parent.name}"
        os.replace(folder / name, outside)
        (os.link if hard else os.symlink)(outside, folder / name)

    return tamper


def bound(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # the address must be short
        listening.bind("s")
        os.chdir(here)


def journal_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
        (folder / "journal.jsonl").write_text("".join(change(lines)))

    return tamper


def as_an_older_seal(folder: Path) -> None:
    """The seal taken out of the journal, and what a version names out of the manifest."""
    journal_lines(lambda lines: lines[:-1])(folder)
    last = Journal(folder / "journal.jsonl").events()[-1]
    with_manifest(lambda manifest: manifest.update(journal={"seq": last.seq, "head": last.hash}))(folder)
    with_manifest(lambda manifest: manifest.pop("version"))(folder)


def renamed(folder: Path) -> None:
    folder.rename(folder.with_name("20990101T000000Z-inc-9-full-ffffff"))


def renamed_in_its_manifest_too(folder: Path) -> None:
    with_manifest(lambda manifest: manifest.update(run="20990101T000000Z-inc-9-full-ffffff"))(folder)
    renamed(folder)


def exchanged(folder: Path) -> None:
    one, other = folder / "evidence" / "build.txt", folder / "postmortem.md"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


TAMPERING: dict[str, Callable[[Path], object]] = {
    **{
        f"{name} changed": lambda folder, name=name: (folder / name).write_text("other")
        for name in ("report.html", "evidence/rows.json", "salvage/manifest.json", "lab/01-triage.ipynb", "postmortem.md")
    },
    "a byte added": lambda folder: (folder / "evidence/page-7-after.png").write_bytes(b"a picture."),
    "emptied": lambda folder: (folder / "evidence/build.txt").write_text(""),
    **{
        f"{name} removed": lambda folder, name=name: (folder / name).unlink()
        for name in ("report.html", "rollback-log.md", "evidence/rows.json", "journal.jsonl", "manifest.json")
    },
    **{
        f"{name} removed with its entry": removed_with_its_entry(name)
        for name in ("report.html", "rollback-log.md", "evidence/rows.json", "journal.jsonl", "03-full-rollback.ipynb")
    },
    "a directory removed": lambda folder: shutil.rmtree(folder / "salvage"),
    "two files exchanged": exchanged,
    "a file renamed": lambda folder: (folder / "evidence/build.txt").rename(folder / "evidence/built.txt"),
    "a file added": lambda folder: private(folder / "evidence/more.json"),
    "a file added with its entry": added_with_its_entry,
    "a foreign file": lambda folder: private(folder / "notes.docx"),
    "a foreign notebook": lambda folder: private(folder / "lab" / "Untitled.ipynb"),
    "a hidden file": lambda folder: private(folder / ".hidden"),
    "a hidden file of evidence": lambda folder: private(folder / "evidence" / ".rows.json"),
    "a hidden directory": lambda folder: private(folder / ".profile" / "Cookies"),
    "an empty directory": lambda folder: (folder / "more").mkdir(mode=0o700),
    "a directory in the evidence": lambda folder: private(folder / "evidence" / "deep" / "x.json"),
    "half a file of a killed process": lambda folder: private(folder / "evidence" / ".rows.json.999999999"),
    "more in the lock": lambda folder: (folder / ".lock").write_text("pid 1\nand a letter"),
    "a file like that of a step in parts": lambda folder: private(folder / ".parts-clear", "a letter"),
    "a file for everybody to read": lambda folder: (folder / "evidence/rows.json").chmod(0o644),
    "a file to execute": lambda folder: (folder / "evidence/build.txt").chmod(0o700),
    "a file that nobody may write": lambda folder: (folder / "report.html").chmod(0o400),
    "a file with a set-user-id bit": lambda folder: (folder / "evidence/build.txt").chmod(0o4600),
    "a directory for everybody": lambda folder: (folder / "evidence").chmod(0o755),
    "the folder for everybody": lambda folder: folder.chmod(0o755),
    "the manifest for everybody": lambda folder: (folder / "manifest.json").chmod(0o644),
    **{f"{name}, a symbolic link": linked(name) for name in ("report.html", "evidence", "journal.jsonl", "manifest.json")},
    "a link to nothing": lambda folder: os.symlink("nothing", folder / "evidence" / "gone.json"),
    "a hard link": linked("evidence/rows.json", hard=True),
    "the manifest, a hard link": linked("manifest.json", hard=True),
    "a FIFO": lambda folder: os.mkfifo(folder / "evidence" / "pipe.txt", 0o600),
    **{
        f"a FIFO in place of {name}": lambda folder, name=name: [(folder / name).unlink(), os.mkfifo(folder / name, 0o600)]
        for name in ("report.html", "journal.jsonl", "manifest.json", ".lock")
    },
    "a socket": bound,
    "the folder renamed": renamed,
    "the folder renamed, in its manifest too": renamed_in_its_manifest_too,
    **{
        f"manifest: {name}": with_manifest(lambda manifest, name=name, value=value: manifest.update({name: value}))
        for name, value in {
            "signed": True,
            "note": "This manifest is signed.",
            "sealed_at": "2020-01-01T00:00:00+00:00",
            "run": "another",
            "version": 1,
            "journal": {"seq": 1, "head": "0" * 64},
            "more": "a letter",
        }.items()
    },
    **{
        f"manifest without {name}": with_manifest(lambda manifest, name=name: manifest.pop(name))
        for name in ("signed", "note", "version", "run", "files", "journal")
    },
    "manifest: a hash": with_manifest(lambda manifest: manifest["files"].update({"report.html": "0" * 64})),
    "manifest: the journal's hash": with_manifest(lambda manifest: manifest["files"].update({"journal.jsonl": "0" * 64})),
    "manifest: no entry": with_manifest(lambda manifest: manifest["files"].pop("evidence/rows.json")),
    "manifest: more in the journal's entry": with_manifest(lambda manifest: manifest["journal"].update(more="a letter")),
    "manifest: a field twice": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace('"signed": false', '"signed": true,\n  "signed": false')
    ),
    "manifest written otherwise": lambda folder: (folder / "manifest.json").write_text(
        (folder / "manifest.json").read_text().replace("\n", "\r\n")
    ),
    "journal: an event changed": journal_lines(lambda lines: [lines[0].replace("full", "quick"), *lines[1:]]),
    "journal: the seal changed": journal_lines(lambda lines: [*lines[:-1], lines[-1].replace("report.html", "x.html")]),
    "journal: an event taken out": journal_lines(lambda lines: [lines[0], *lines[2:]]),
    "journal: the seal taken out": journal_lines(lambda lines: lines[:-1]),
    "journal: an event added": lambda folder: Journal(folder / "journal.jsonl").append("noted", text="late"),
    "journal: half a line added": journal_lines(lambda lines: [*lines, '{"seq":']),
    "journal: an empty line added": journal_lines(lambda lines: [*lines, "\n"]),
    "sealed as by an older version": as_an_older_seal,
}


def tampered(sealed: Path, where: Path) -> Iterator[tuple[str, int, list[str]]]:
    """Each way of tampering, and what `runbook verify` said of a copy."""
    for number, (name, tamper) in enumerate(TAMPERING.items()):
        copy = where / str(number) / sealed.name
        shutil.copytree(sealed, copy, symlinks=True)
        assert verified(copy) == (0, [])
        tamper(copy)
        (left,) = [path for path in copy.parent.iterdir() if path.is_dir()]
        yield name, *verified(left)


def test_every_way_of_tampering_is_noticed(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tried = list(tampered(sealed, tmp_path / "tampered"))
    unnoticed = [name for name, code, problems in tried if code != 3 or not problems]

    with capsys.disabled():
        print(f"\ntampering noticed: {len(tried) - len(unnoticed)} of {len(tried)}")
    assert unnoticed == []


def test_an_extended_attribute_is_noticed(sealed: Path) -> None:
    try:
        os.setxattr(sealed / "report.html", "user.letter", b"hidden")
    except OSError as error:
        pytest.skip(f"this file system has none: {error}")

    assert verified(sealed) == (3, ["report.html: has extended attributes: user.letter."])


def test_a_link_to_the_folder_is_no_folder_of_a_run(sealed: Path) -> None:
    os.symlink(sealed, sealed.parent / "link")

    assert verified(sealed.parent / "link")[0] == 3


def test_a_problem_names_the_file_and_what_is_wrong_with_it(sealed: Path) -> None:
    with_manifest(lambda manifest: manifest.update(signed=True))(sealed)
    (sealed / "evidence/rows.json").chmod(0o644)

    assert verified(sealed) == (
        3,
        [
            "evidence/rows.json: its mode is 0644, not 0600.",
            "manifest.json: differs from the journal's seal in: signed.",
        ],
    )


def test_a_folder_that_an_older_version_sealed_is_intact(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "INC-1", "full")
    filled(folder)
    report.seal(folder)
    as_an_older_seal(folder.path)
    with_manifest(lambda manifest: manifest.update(note=OLD_NOTE))(folder.path)
    digest = hashlib.sha256(folder.journal_path.read_bytes()).hexdigest()
    with_manifest(lambda manifest: manifest["files"].update({"journal.jsonl": digest}))(folder.path)
    private(folder.path / ".profile" / "Default" / "Cookies")
    for path in (folder.path, folder.path / "report.html", folder.path / "manifest.json"):
        path.chmod(0o755)

    assert verified(folder.path) == (0, [])

    (folder.path / "report.html").unlink()
    with_manifest(lambda manifest: manifest["files"].pop("report.html"))(folder.path)
    assert verified(folder.path)[0] == 3


def test_sealing_what_is_as_it_was_adds_nothing_to_the_journal(sealed: Path) -> None:
    before = (sealed / "journal.jsonl").read_bytes()

    report.seal(RunFolder(sealed))

    assert (sealed / "journal.jsonl").read_bytes() == before


def test_the_next_seal_corrects_what_programs_and_killed_processes_left(sealed: Path) -> None:
    (sealed / "lab" / "01-triage.ipynb").chmod(0o644)
    private(sealed / "evidence" / ".rows.json.999999999")
    private(sealed / ".profile" / "Cookies")

    report.seal(RunFolder(sealed))

    assert verified(sealed) == (0, [])


def test_what_a_killed_step_was_asked_for_is_no_tampering(sealed: Path) -> None:
    with ControlFile(sealed, "clear-backfill").opened():
        assert verified(sealed) == (0, [])
