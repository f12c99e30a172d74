"""The notebook in which a run continues: named by a link, and opened automatically under `runbook lab`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.run import Run, lifecycle
from runbook_lib.ui import display, panel
from runbook_lib.ui.display import Shown
from runbook_lib.ui.widgets import attended

RECOVERY = "08-service-back"

prepare: list[Callable[[Run], Path]] = []  # makes the notebook; only a kernel of `runbook lab` has one


def is_served() -> bool:
    """Whether `runbook lab` serves this kernel, attended."""
    return bool(prepare) and attended()


def opened(run: Run) -> Shown:
    """Name the notebook of the run's type; under `runbook lab`, make it, open it, and close this one's panel."""
    name = lifecycle.notebook_of(run.context.plan, run.context.type)
    if not is_served():
        return display.line(f"Next: open {name}, RUN = {run.folder.label}")
    file = prepare[0](run)
    open_file(file.name)
    if place := panel.opened():
        place.close()
    return display.link("Next, if it did not open automatically: ", file.name)


def open_file(name: str) -> None:
    """Open a notebook of this folder in JupyterLab."""
    folder = Path.cwd()
    _front_end().commands.execute("docmanager:open", {"path": f"{folder.name}/{name}", "factory": "Notebook"})


@cache
def _front_end() -> Any:
    from ipylab import JupyterFrontEnd

    return JupyterFrontEnd()
