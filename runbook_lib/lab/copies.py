"""The notebooks of a run: parameterised copies in its folder, so that the originals are never edited."""

import ast
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from runbook_lib.conductor import NOTEBOOKS
from runbook_lib.parameters import ROOT
from runbook_lib.run import Run

DIRECTORY = "lab"
FIRST = "01-triage"


def prepare(run: Run) -> list[Path]:
    """Copy each notebook into the run's folder with the run's parameters injected; a copy that is there stays as it is."""
    directory = run.folder.path.resolve() / DIRECTORY
    directory.mkdir(exist_ok=True)
    sources = sorted(NOTEBOOKS.glob("*.ipynb"))
    parameters = _parameters(run)
    missing = [source for source in sources if not (directory / source.name).exists()]
    for source in missing:
        _copy(source, directory / source.name, parameters)
    if missing:
        run.journal.append("notebooks-prepared", directory=DIRECTORY, notebooks=[source.stem for source in missing])
    return [directory / source.name for source in sources]


def _parameters(run: Run) -> dict[str, str]:
    """What the notebooks are told; paths as they are from the project, so that a copy can be opened elsewhere."""
    opened, folder = run.state.opened, run.folder.path.resolve()
    return {
        "PLAN": opened["plan_file"],
        "TARGET": opened["target_file"],
        "OPTION": opened["option"],
        "OPERATOR": opened["operator"],
        "REASON": opened["reason"],
        "INCIDENT": opened["incident"],
        "RUN": str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder),
    }


def _copy(source: Path, copy: Path, parameters: Mapping[str, str]) -> None:
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of a comment that it cannot take in
    known = _known(source)
    papermill.execute_notebook(
        str(source),
        f"runbook://{copy}",
        {name: value for name, value in parameters.items() if name in known},
        kernel_name="python3",
        prepare_only=True,
        progress_bar=False,
    )


def _known(notebook: Path) -> set[str]:
    """The parameters that a notebook has."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    targets = [node.target for source in sources for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
