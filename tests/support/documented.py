"""The commands of a page of the documentation, run as a reader runs them, and compared with what the page shows."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.config.loading import PROJECT

from .browser_seat import LAB, python_path
from .places import ROOT

BLOCK = re.compile(r"^```sh\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
VARIES = [
    (re.compile(r"\d{8}T\d{6}Z|\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? m?s\b"), "N s"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{6,64}\b"), "ID"),
]
LATER = "===="  # before the exit code of a block, in what the shell prints
PROLOGUE = f"""\
runbook() {{
  if [ "$1" = lab ]; then lab "$@"; else command runbook "$@"; fi
}}
lab() {{
  "$LAB" "$@" --no-browser >lab.txt 2>&1 &
  until grep -qs "^Ctrl-C" lab.txt || ! kill -0 $! 2>/dev/null; do sleep 0.1; done
  "$PYTHON" -c "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])" "$(sed -n "s/^Open //p" lab.txt)"
  kill -INT $!
  wait $!
  cat lab.txt
}}
block() {{ printf "\\n{LATER} %s\\n" $?; }}
"""


@dataclass(frozen=True)
class Block:
    """What a reader types, and what the page shows of its output; "" where it shows none."""

    typed: str
    shown: str

    def is_shown_by(self, printed: str) -> bool:
        """Whether that output is the shown one: times and ids vary, "…" is the rest of a line, or alone in one any lines."""
        parts = re.split(r"^…\n", _plain(self.shown), flags=re.MULTILINE)
        pattern = "(?:.*\n)*?".join(map(re.escape, parts)).replace("…", ".*")
        return re.fullmatch(pattern, _plain(printed)) is not None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are marked `sh`, each with the `text` that follows it."""
    return [Block(*found.groups("")) for found in BLOCK.finditer(page.read_text())]


def printed(typed: Sequence[Block], folder: Path, seconds: float) -> list[tuple[str, int]]:
    """What each block prints, and its exit code, where all are run in one shell that begins in that folder.

    `runbook lab` is ended, as by Ctrl-C, once what it opened answers.
    """
    script = folder.with_suffix(".sh")
    script.write_text(PROLOGUE + "".join(f"{block.typed}block\n" for block in typed))
    environment = {
        **os.environ,
        **python_path("7.4"),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        PROJECT: str(folder),  # as it is for an installed package
        "PYTHON": sys.executable,
        "LAB": str(LAB / "bin" / "runbook"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{role}_{key}": "ann@shop.example" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
    }
    shell = subprocess.Popen(
        ["bash", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        text, _ = shell.communicate(timeout=seconds)
    except BaseException:
        os.killpg(shell.pid, signal.SIGTERM)
        raise
    parts = re.split(rf"^{LATER} (\d+)\n", text, flags=re.MULTILINE)
    return [(text.removesuffix("\n"), int(code)) for text, code in zip(parts[::2], parts[1::2], strict=False)]


def _plain(text: str) -> str:
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return text
