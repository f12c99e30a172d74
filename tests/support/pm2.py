"""A pm2 of the tests' own with small services, each of which says when it starts."""

import json
import os
import shutil
import signal
import socketserver
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

from .places import ROOT

CANARY = "canary-of-pm2-4711"
SERVICE = """
const name = process.argv[2];
const stamp = new Date().toISOString();
process.stdout.write(`${stamp} INFO ${name} started\\n  with a second line\\n`);
if (name === "split") process.stderr.write(`${stamp} ERROR apart\\n`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => { if (!["stubborn", "immortal"].includes(name)) process.exit(0); });
}
if (["crashing", "flapping"].includes(name)) setTimeout(() => process.exit(1), 300);
setInterval(() => {}, 1000);
"""
# Asks the library of pm2 what the tests want to know themselves: its command line takes a third of a second to load.
ASKING = """
const pm2 = require(process.argv[1]);
const shown = ({name, pm_id, pid, pm2_env}) => ({name, pm_id, pid, status: pm2_env?.status});
const answer = (error, found) => console.log(JSON.stringify(error ? {error: error.message} : found.map(shown)));
const ask = {list: () => pm2.list(answer), stop: () => pm2.stop("all", answer)};
pm2.connect(() => {
  const lines = require("readline").createInterface({input: process.stdin});
  lines.on("line", (line) => ask[line]()).on("close", () => process.exit());
});
"""
OPTIONS: dict[str, dict[str, object]] = {
    "web": {},
    "worker": {},
    "slow": {},
    "stubborn": {"kill_timeout": 500},
    "immortal": {"kill_timeout": 60000, "autorestart": False},
    "crashing": {"autorestart": False},
    "flapping": {"max_restarts": 1000},
    "restless": {},
    "split": {},
    "broken": {},
}


@dataclass(frozen=True)
class Pm2:
    root: Path
    command: str

    @property
    def home(self) -> Path:
        return self.root / "h"

    def __call__(self, *words: str) -> str:
        return _run(self.command, self.root, *words)

    @cached_property
    def asking(self) -> "subprocess.Popen[str]":
        """Answers `ask`, without a command of its own for each question; it needs pm2's daemon to be there."""
        asked, pipe = ["node", "--eval", ASKING, str(Path(self.command).resolve().parents[1])], subprocess.PIPE
        return subprocess.Popen(asked, stdin=pipe, stdout=pipe, text=True, env=_env(self.root))

    def end(self) -> None:
        """Bring down the daemon and what was asked of it."""
        if "asking" in self.__dict__:
            with self.asking:
                pass
        self("kill")

    def ask(self, question: str) -> list[dict[str, Any]]:
        assert self.asking.stdin and self.asking.stdout
        print(question, file=self.asking.stdin, flush=True)
        answer = json.loads(self.asking.stdout.readline())
        assert isinstance(answer, list), answer
        return answer

    def entry(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.ask("list") if entry["name"] == name)

    def pids(self, name: str) -> list[int]:
        return [pid for pid in [self.entry(name)["pid"]] if pid]

    def clear(self) -> None:
        alive = [entry for entry in self.ask("list") if entry["status"] not in ("stopped", "errored")]  # or about to be
        for entry in alive:
            if entry["name"] == "immortal" and entry["pid"]:
                with suppress(ProcessLookupError):
                    os.kill(entry["pid"], signal.SIGKILL)
        if alive:
            self.ask("stop")

    def deploy(self, build: str) -> None:
        """Put a new version of the code there, as a deploy or a revert does; what runs is not touched."""
        _deploy(self.root, build)


@contextmanager
def a_pm2(command: str) -> Iterator[Pm2]:
    root = Path(tempfile.mkdtemp(prefix="rp-"))  # short: the path of a socket has at most 107 bytes
    (root / "service.js").write_text(SERVICE)
    (root / "broken.js").write_text(SERVICE)
    _deploy(root, "1")
    apps = [
        {
            "name": name,
            "script": "broken.js" if name == "broken" else "service.js",
            "args": [name],
            "cwd": str(root),
            "env": {"SECRET_OF_SERVICE": CANARY},
            **options,
        }
        for name, options in OPTIONS.items()
    ]
    (root / "ecosystem.json").write_text(json.dumps({"apps": apps}))
    made = Pm2(root, command)
    try:
        made("start", "ecosystem.json")
        made.clear()
        (root / "broken.js").unlink()
        yield made
    finally:
        made.end()
        shutil.rmtree(root, ignore_errors=True)


def answered(listed: object) -> bytes:
    """What a daemon answers that lists these processes."""
    parts = [b"j:" + json.dumps({"args": [listed]}).encode(), b"s:runbook:0"]
    return b"\x12" + b"".join(len(part).to_bytes(4) + part for part in parts)


@contextmanager
def a_daemon(home: Path, answer: Callable[[], bytes]) -> Iterator[None]:
    """What listens as pm2's daemon does, and gives this answer to whatever it is asked."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(2**16)
            self.request.sendall(answer())

    with socketserver.ThreadingUnixStreamServer(str(home / "rpc.sock"), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _deploy(root: Path, build: str) -> None:
    (root / "package.json").write_text(json.dumps({"name": "contract", "version": f"{build}.0.0"}))


def _run(command: str, root: Path, *words: str) -> str:
    done = subprocess.run([command, *words], capture_output=True, text=True, env=_env(root), cwd=root, check=False)
    return done.stdout


def _env(root: Path) -> dict[str, str]:
    return {**os.environ, "PM2_HOME": str(root / "h"), "SECRET_OF_OPERATOR": CANARY}


def pm2_command() -> str | None:
    """The pm2 that the set-up has installed, else the one on the PATH."""
    installed = ROOT / ".venv" / "pm2" / "node_modules" / ".bin" / "pm2"
    return str(installed) if installed.exists() else shutil.which("pm2")
