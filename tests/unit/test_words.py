"""Rare words are listed with their reason; banned words are not used."""

import re
import subprocess

import pytest

from ..support.places import ROOT

RARE = re.compile(r"\b(anew|beside|told|owed|gone on with|to be had)\b", re.IGNORECASE)
RARE_IN = ("README.md", "docs", "notebooks", "runbook_lib")
MOST = 40  # lines with a rare word

EVENT = "the kind of a journal event, which earlier runs have too"
ALLOWED = [  # a file, a part of the line ("" is any line of the file), and the reason
    ("runbook_lib/journal/control.py", '.append("owed"', EVENT),
    ("runbook_lib/journal/event.py", 'kind="owed"', EVENT),
    ("runbook_lib/run/cleanup.py", '.append("owed"', EVENT),
    ("runbook_lib/run/lease.py", '.append("owed"', EVENT),
]

BANNED = {  # a word, and what to write
    r"tells?": "report, name, show, distinguish",
    r"stands": "is, exists",
    r"aside": "shadow, staging",
    r"held against": "compared with",
    r"deeds?": "the action",
    r"mend(s|ed|ing)?": "fix",
    r"former(ly)?": "previous",
    r"what becomes of": "result",
    r"(is|are) wanted": "requested, expected",
    r"there and back": "round trip",
    r"carr(y|ies|ied) (it |this |that )?out": "execute",
    r"owes?": "pending",
    r"(go|goes|gone|going|went) on": "continue, resume",
    r"lies? in": "is in",
    r"ways? back": "undo, rollback",
    r"besides": "also, next to",
    r"debts?": "pending cleanup",
}
BANNED_IN = ("README.md", "CHANGELOG.md", "docs", "benchmarks", "notebooks", "runbook_lib")
# Code, and names that targets and run folders hold, which earlier versions read.
NO_PROSE = re.compile(r"`[^`]+`|columns-set-aside|\"set aside\"|own\(\"former\"\)|rb\"go on")
KEYS = {r"debts?": "runbook_lib/"}  # a key of the journal and of --json


def lines(*paths: str) -> list[tuple[str, int, str]]:
    """Each line of the tracked text files there, with file and number."""
    listed = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if not name.endswith(".png") and not (ROOT / name).is_symlink()]
    return [(name, n, line) for name in files for n, line in enumerate((ROOT / name).read_text().splitlines(), 1)]


FOUND = [(name, n, line) for name, n, line in lines(*RARE_IN) if RARE.search(line)]


def test_each_line_with_a_rare_word_is_listed() -> None:
    unlisted = [
        f"{name}:{n}: {line.strip()}"
        for name, n, line in FOUND
        if not any(name == file and part in line for file, part, _ in ALLOWED)
    ]

    assert unlisted == []
    assert len(FOUND) <= MOST


def test_each_listed_line_exists() -> None:
    gone = [(file, part) for file, part, _ in ALLOWED if not any(file == name and part in line for name, _, line in FOUND)]

    assert gone == []


@pytest.mark.parametrize("word", BANNED)
def test_a_banned_word_is_not_used(word: str) -> None:
    banned = re.compile(rf"\b({word})\b(?!-)", re.IGNORECASE)
    used = [
        f"{name}:{n}: {line.strip()}"
        for name, n, line in lines(*BANNED_IN)
        if banned.search(NO_PROSE.sub("`", line)) and not (word in KEYS and name.startswith(KEYS[word]))
    ]

    assert used == [], f"write: {BANNED[word]}"
