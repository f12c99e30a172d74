"""A separate JupyterLab for one run or fleet: on loopback, with a token and the project's settings, not the user's."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote

from runbook_lib.config.installed import packaged, require_extra
from runbook_lib.config.loading import PROJECT, ROOT
from runbook_lib.documents import load_plan
from runbook_lib.errors import PreconditionError
from runbook_lib.fleet import FleetRun, archive
from runbook_lib.lab.copies import prepare, prepare_fleet, write_cards
from runbook_lib.rehearsal.rehearse import require_programs, scenario_named
from runbook_lib.rehearsal.workspace import MARK, PLAN, TARGET, settled_in
from runbook_lib.run import Run, lifecycle
from runbook_lib.system import temporary
from runbook_lib.system.signals import ending_signals_raise, undisturbed, with_default_signals

SETTINGS = packaged("lab", "settings")
START_SECONDS = 60
STOP_SECONDS = 15
PORT = 8888  # or the next free one


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: the link that opens it, with its token, and its process."""

    link: str = field(repr=False)
    process: "subprocess.Popen[bytes]"


@contextmanager
def serving(folder: Path, notebooks: Sequence[Path], environment: Mapping[str, str]) -> Iterator[Lab]:
    """Serve a run folder until the block ends; the link opens the first notebook.

    Raises:
        PreconditionError: The extra `lab` is not installed, or JupyterLab does not start.
    """
    require_extra("lab")
    token = secrets.token_urlsafe(24)
    with temporary.directory() as own:
        write_cards(own / "cards", folder, notebooks)
        shutil.copytree(SETTINGS / "user", own / "settings")
        shutil.copytree(SETTINGS / "workspaces", own / "workspaces")
        shutil.copytree(SETTINGS / "custom", own / "config" / "custom")
        log = own / "jupyterlab.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                with_default_signals(_command(folder, own)),
                cwd=folder,
                env={**environment, **_own_directories(own), PROJECT: str(ROOT), "JUPYTER_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only this process, which ends that one in order
            )
        try:
            address = _address(process, own / "run", log)
            page = quote(str(notebooks[0].relative_to(folder)))
            yield Lab(f"{address}lab/tree/{page}?token={token}", process)
        finally:
            _end(process)


def _command(folder: Path, own: Path) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "jupyterlab", f"--config={SETTINGS / 'server.json'}"),
        *(f"--ServerApp.root_dir={folder}", f"--ServerApp.port={PORT}", f"--LabApp.app_settings_dir={SETTINGS}"),
        f"--FileCheckpoints.checkpoint_dir={own / 'checkpoints'}",  # no hidden copies in the run's folder
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]


def _own_directories(own: Path) -> dict[str, str]:
    """Jupyter's own directories, so that other sessions' tabs and the user's settings have no effect."""
    return {
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_PATH": str(SETTINGS),  # the kernel
        "JUPYTER_RUNTIME_DIR": str(own / "run"),
        "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
        "JUPYTER_APP_LAUNCHER_PATH": str(own / "cards"),
    }


def _address(process: "subprocess.Popen[bytes]", runtime: Path, log: Path) -> str:
    """The server's address, from its own runtime file once it listens."""
    deadline = monotonic() + START_SECONDS
    said = runtime / f"jpserver-{process.pid}.json"
    while process.poll() is None and monotonic() < deadline:
        try:
            return str(json.loads(said.read_text())["url"])
        except (FileNotFoundError, json.JSONDecodeError):
            sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise PreconditionError(
        "JupyterLab did not start: " + (" / ".join(last) or "it printed nothing."),
        where=sys.prefix,
        state="The run folder exists; nothing else was touched.",
        safe_next="Fix what it names, then open the run again: runbook lab RUN.",
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server and its kernels; the next session finds an unfinished step and can resume it."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


Opened = Callable[[Run | FleetRun, str], None]  # called with the run and the link once JupyterLab answers


def seat(run: Run, opened: Opened, environment: Mapping[str, str] = os.environ) -> None:
    """Serve a run in JupyterLab until it is shut down there or by Ctrl-C, SIGTERM or SIGHUP; then write its archive again.

    Raises:
        PreconditionError: The extra `lab` is not installed, JupyterLab does not start, or the plan requires a
            rehearsal and none matches.
    """
    folder = run.folder.path.resolve()
    run.require_rehearsed()
    with ending_signals_raise():
        try:
            with serving(folder, prepare(run), environment) as lab:
                opened(run, lab.link)
                lab.process.wait()
        finally:
            with undisturbed():
                run.close_adapters()
                _seal(run)


def seat_fleet(run: FleetRun, opened: Opened, environment: Mapping[str, str] = os.environ) -> None:
    """Serve a fleet's notebook in JupyterLab until it is shut down; then write the fleet's seal again, where it has one.

    Raises:
        PreconditionError: The extra `lab` is not installed, or JupyterLab does not start.
    """
    with ending_signals_raise():
        try:
            with serving(run.folder.path.resolve(), [prepare_fleet(run)], environment) as lab:
                opened(run, lab.link)
                lab.process.wait()
        finally:
            with undisturbed():
                if archive.is_sealed(run):  # JupyterLab has saved the notebook since
                    archive.write(run, run.folder.held_by())


def game_day(scenario: str, rows: int, opened: Opened, type_name: str = "", option: str = "", **about: str) -> None:
    """Start the embedded stack with the fault of a scenario, serve the run, and stop all at the end.

    Raises:
        ParametersError: There is no such scenario, type or option.
        PreconditionError: An extra, git or Chromium is not installed, or JupyterLab does not start.
        StackError: A part of the stack does not start.
    """
    from runbook_lib.rehearsal.stack import stack

    require_extra("lab")
    require_extra("rehearsal")
    require_programs()
    chosen = scenario_named(scenario)
    with stack(rows=rows, fault=chosen.fault) as up, settled_in(up.environment):
        usual = {"operator": "rehearsal", "reason": chosen.about, "incident": f"rehearsal-{scenario}"}
        given = {name: value for name, value in about.items() if value}
        run = begin(PLAN, TARGET, type_name, option, recommended=chosen.option, **{**usual, **given})
        seat(run, opened, {**os.environ, MARK: str(up.root)})  # so that leftovers end with the stack


def begin(
    plan_file: Path,
    target_file: Path,
    type_name: str = "",
    option: str = "",
    *,
    recommended: str = "A",
    **about: str,
) -> Run:
    """Begin a run; without a type, triage chooses it; without an option, the notebook asks and recommends one.

    Raises:
        ParametersError: The plan, target, type or option is wrong; no folder was made.
    """
    require_extra("lab")
    plan = load_plan(plan_file)
    options = plan.types[plan.carried_out(type_name)].options if type_name else {}
    first = option or (recommended if recommended in options or not options else next(iter(options)))
    run = lifecycle.open_new(plan_file, target_file, type_name, option=first, **about)  # type: ignore[arg-type]
    if option and options:
        run.choose("OPTION", option, "parameter")
    return run


def show(link: str) -> None:
    """Open the link in the user's browser, if there is one."""
    with suppress(webbrowser.Error):
        webbrowser.open(link)


def _seal(run: Run) -> None:
    """Write the archive of an ended run again: JupyterLab has saved the notebooks since."""
    if any(event.kind == "outcome" for event in run.journal.events()):
        lifecycle.write_archive(run)
