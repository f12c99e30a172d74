"""Opens a run in JupyterLab: on a target, or as a game day on the embedded stack with a fault in it."""

import os
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from runbook_lib import closing, opening
from runbook_lib.lab.copies import prepare
from runbook_lib.lab.server import require_jupyterlab, serving
from runbook_lib.rehearsal.environment import settled_in
from runbook_lib.rehearsal.paths import OUTPUTS, PLAN, TARGET
from runbook_lib.rehearsal.processes import MARK
from runbook_lib.rehearsal.rehearse import scenario_named
from runbook_lib.run import Run
from runbook_lib.signals import ending_signals_raise, undisturbed

Opened = Callable[[Run, str], None]  # the run and the link, once JupyterLab answers


def seat(run: Run, opened: Opened, environment: Mapping[str, str] = os.environ) -> None:
    """Serve a run in JupyterLab until it is shut down there, or by Ctrl-C, SIGTERM or SIGHUP; then seal it anew.

    Raises:
        PreconditionError: JupyterLab is not installed, or does not start.
    """
    folder = run.folder.path.resolve()
    with ending_signals_raise():
        try:
            with serving(folder, prepare(run), environment) as lab:
                opened(run, lab.link)
                lab.process.wait()
        finally:
            with undisturbed():
                run.close_adapters()
                _seal(run)


def game_day(scenario: str, rows: int, opened: Opened, **about: str) -> None:
    """Bring up the embedded stack with the fault of a scenario in it, seat the engineer, take all down at the end.

    Raises:
        ParametersError: There is no such scenario.
        PreconditionError: JupyterLab is not installed, or does not start.
        StackError: A part of the stack does not come up.
    """
    from runbook_lib.rehearsal.stack import stack

    require_jupyterlab()
    chosen = scenario_named(scenario)
    with stack(rows=rows, fault=chosen.fault) as up, settled_in(up.environment):
        told = {"operator": "rehearsal", "reason": chosen.about, "incident": f"rehearsal-{scenario}"}
        given = {name: value for name, value in about.items() if value}
        run = opening.open_new(PLAN, TARGET, "", option=chosen.option, outputs=OUTPUTS, **{**told, **given})
        seat(run, opened, {**os.environ, MARK: str(up.root)})  # so that what is left of it ends with the stack


def begin(plan_file: Path, target_file: Path, **about: str) -> Run:
    """Begin a run whose type is to be chosen by triage.

    Raises:
        ParametersError: Anything about the plan or the target is wrong; no folder was made.
    """
    require_jupyterlab()
    return opening.open_new(plan_file, target_file, "", **about)  # type: ignore[arg-type]


def show(link: str) -> None:
    """Open the link in the user's browser, where there is one."""
    with suppress(webbrowser.Error):
        webbrowser.open(link)


def _seal(run: Run) -> None:
    """Write the archive of a run that was sealed once more: JupyterLab has saved the notebooks since."""
    if any(event.kind == "outcome" for event in run.journal.events()):
        closing.write_archive(run)
