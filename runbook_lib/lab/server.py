"""A JupyterLab of its own for one run: on loopback, with a token, the project's settings and none of the user's."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

from runbook_lib.errors import PreconditionError
from runbook_lib.lab.cards import write_cards

SETTINGS = Path(__file__).with_name("settings")
START_SECONDS = 60
STOP_SECONDS = 15
PORT = 8888  # or the next one that is free


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: the link that opens it, with its token, and its process."""

    link: str = field(repr=False)
    process: "subprocess.Popen[bytes]"


def require_jupyterlab() -> None:
    """Say how to get JupyterLab where it is not installed. Read-only.

    Raises:
        PreconditionError: It is not.
    """
    if find_spec("jupyterlab") is None:
        raise PreconditionError(
            "JupyterLab is not installed beside this program.",
            where=sys.prefix,
            state="Nothing was started.",
            safe_next="Use `make lab`, which sets it up in .venv-lab; or install the extra `lab`.",
        )


@contextmanager
def serving(folder: Path, notebooks: Sequence[Path], environment: Mapping[str, str]) -> Iterator[Lab]:
    """Serve a run folder until the block ends, with the first notebook as the page to open.

    Raises:
        PreconditionError: JupyterLab is not installed, or does not start.
    """
    require_jupyterlab()
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="runbook-lab-", ignore_cleanup_errors=True) as private:
        own = Path(private)
        write_cards(own / "cards", folder, notebooks)
        shutil.copytree(SETTINGS / "user", own / "settings")
        log = own / "jupyterlab.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                _command(folder),
                cwd=folder,
                env={**environment, **_own_directories(own), "JUPYTER_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends that one in order
            )
        try:
            address = _address(process, own / "runtime", log)
            page = quote(str(notebooks[0].relative_to(folder)))
            yield Lab(f"{address}lab/tree/{page}?token={token}", process)
        finally:
            _end(process)


def _command(folder: Path) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "jupyterlab", f"--config={SETTINGS / 'server.json'}"),
        *(f"--ServerApp.root_dir={folder}", f"--ServerApp.port={PORT}", f"--LabApp.app_settings_dir={SETTINGS}"),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]


def _own_directories(own: Path) -> dict[str, str]:
    """Where Jupyter keeps what is not the run's; so neither another session's tabs nor a user's settings get in the way."""
    return {
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_PATH": str(SETTINGS),  # the kernel
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "JUPYTER_APP_LAUNCHER_PATH": str(own / "cards"),
    }


def _address(process: "subprocess.Popen[bytes]", runtime: Path, log: Path) -> str:
    """Where the server listens, as it says itself once it does."""
    deadline = monotonic() + START_SECONDS
    said = runtime / f"jpserver-{process.pid}.json"
    while process.poll() is None and monotonic() < deadline:
        try:
            return str(json.loads(said.read_text())["url"])
        except (FileNotFoundError, json.JSONDecodeError):
            sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise PreconditionError(
        "JupyterLab did not start: " + (" / ".join(last) or "it said nothing."),
        where=sys.prefix,
        state="The run folder is there; nothing was touched besides.",
        safe_next="Mend what it names, then open the run again: runbook lab RUN.",
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have the server end its kernels and itself; a step that one of them was in is found and finished by the next run."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
