"""A supervisord with small services, each of which says when it starts."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.services.supervisor import call

from .waiting import until

SERVICE = """
import signal, sys, time
from datetime import UTC, datetime
name = sys.argv[1]
if name in ("stubborn", "immortal"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
build = open(sys.argv[2]).read()
said = f"{stamp} INFO {name} started in build {build}\\n  with a second line\\n"
print(said, end="", flush=True)  # in one piece: once that was heard, it may be ended at any moment
if name == "broken":
    sys.exit(7)
if name == "split":
    print(f"{stamp} ERROR apart", file=sys.stderr, flush=True)
if name in ("crashing", "flapping"):
    time.sleep(0.2)
    sys.exit(1)
signal.pause()
"""

# A command line of the tests' own: `supervisorctl status` takes ten times as long to load.
STATUS = """
import socket, sys
root, *names = sys.argv[1:]
asked = b"<methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>"
head = b"POST /RPC2 HTTP/1.0\\r\\nContent-Type: text/xml\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(asked)
with socket.socket(socket.AF_UNIX) as it:
    it.connect(root + "/s")
    it.sendall(head + asked)
    said = it.makefile().read()
def value_of(info, key):
    return info.partition(f"<name>{key}</name>")[2].partition("<string>")[2].partition("</string>")[0]
states = {value_of(info, "name"): value_of(info, "statename") for info in said.split("<struct>")[1:]}
if not states or not states.keys() >= set(names):
    sys.exit(1)
for name, state in states.items():
    if state in ("RUNNING", "STARTING", "BACKOFF", "STOPPING") and (not names or name in names):
        print(name)
"""

HEAD = """
[unix_http_server]
file={root}/s
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={root}/pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{root}/s
"""

PROGRAM = """
[program:{name}]
command={python} {root}/service.py {name} {root}/build
autostart=false
startsecs=0
stopwaitsecs=2
stopasgroup=true
stdout_logfile={root}/{name}.log
"""

OPTIONS = {
    "web": "autorestart=false\nredirect_stderr=true\n",
    "worker": "autorestart=false\nredirect_stderr=true\n",
    "slow": "autorestart=false\nredirect_stderr=true\nstartsecs=1\n",
    "stubborn": "autorestart=false\nredirect_stderr=true\nstopwaitsecs=1\n",
    "broken": "autorestart=false\nredirect_stderr=true\nstartsecs=1\nstartretries=0\n",
    "split": "autorestart=false\nstderr_logfile={root}/split.err\n",
    "immortal": "autorestart=false\nredirect_stderr=true\nstopwaitsecs=60\n",
    "crashing": "autorestart=false\nredirect_stderr=true\nstartsecs=1\nstartretries=0\n",
    "flapping": "autorestart=true\nredirect_stderr=true\nstartsecs=1\nstartretries=1000\n",
    "restless": "autorestart=true\nredirect_stderr=true\n",
}


@dataclass(frozen=True)
class Supervisord:
    root: Path

    @property
    def socket(self) -> Path:
        return self.root / "s"

    @property
    def configuration(self) -> Path:
        return self.root / "conf"

    def deploy(self, build: str) -> None:
        """Put a new version of the code there, as a deploy or a revert does; what runs is not touched."""
        (self.root / "build").write_text(build)

    def pids(self, name: str) -> list[int]:
        return [pid for pid in [call(self.socket, "getProcessInfo", name)["pid"]] if pid]


def answers(socket: Path) -> bool:
    try:
        return bool(call(socket, "getState"))
    except OSError:  # its socket is there a moment before it listens
        return False


@contextmanager
def supervising() -> Iterator[Supervisord]:
    root = Path(tempfile.mkdtemp(prefix="rc-"))  # short: the path of a socket has at most 107 bytes
    made = Supervisord(root)
    (root / "service.py").write_text(SERVICE)
    (root / "status.py").write_text(STATUS)
    made.deploy("1")
    programs = [
        PROGRAM.format(root=root, name=name, python=sys.executable) + OPTIONS[name].format(root=root) for name in OPTIONS
    ]
    made.configuration.write_text("".join([HEAD.format(root=root), *programs]))
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(made.configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(made.socket), "supervisord answers")
        yield made
        call(made.socket, "shutdown")
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait(20)
        shutil.rmtree(root)
