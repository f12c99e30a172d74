"""The notebooks of a run: parameterised copies in its folder, so that the originals are never edited."""

import ast
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.config.loading import ROOT
from runbook_lib.headless import rendering
from runbook_lib.headless.papermill_io import clean
from runbook_lib.journal.folder import make_private
from runbook_lib.redaction import redact, register_environment
from runbook_lib.run import Run
from runbook_lib.system import temporary

DIRECTORY = "lab"
FIRST = "01-triage"


def prepare(run: Run) -> list[Path]:
    """Copy each notebook of the run's plan into its folder, its parameters injected; a copy that exists stays as it is."""
    directory = run.folder.path.resolve() / DIRECTORY
    make_private(directory)
    parameters = _parameters(run)
    with temporary.directory() as own:
        sources = rendering.all_of(run.context.plan, parameters["PLAN"], own)
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


ICON = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
  <rect x="5" y="3" width="22" height="26" rx="3" fill="none" stroke="#0b7285" stroke-width="2.5"/>
  <text x="16" y="22" font-family="sans-serif" font-size="15" text-anchor="middle" fill="#0b7285">{}</text>
</svg>
"""


def write_cards(directory: Path, folder: Path, notebooks: Sequence[Path]) -> None:
    """Describe the cards for jupyter-app-launcher; it reads YAML, of which JSON is a part.

    A title begins with the notebook's number, since JupyterLab shows the first letter of a notebook's card large.
    """
    directory.mkdir()
    cards = []
    for notebook in notebooks:
        number, _, name = notebook.stem.partition("-")
        (directory / f"{notebook.stem}.svg").write_text(ICON.format(int(number)))
        cards.append(
            {
                "title": f"{int(number)} {name.replace('-', ' ').capitalize()}",
                "description": f"Notebook {notebook.name} of this run",
                "type": "jupyterlab-commands",
                "source": [{"label": "Open", "id": "docmanager:open", "args": {"path": str(notebook.relative_to(folder))}}],
                "icon": f"{notebook.stem}.svg",
                "catalog": "Notebook",
            }
        )
    (directory / "jp_app_launcher.yaml").write_text(json.dumps(cards, indent=2))


def redacted(model: dict[str, Any], **_: Any) -> None:
    """Take the secrets out of a notebook or a text before it is written; a hook of Jupyter Server's contents manager.

    Raises:
        HTTPError: That failed; any other error would have the server save it as it is.
    """
    from tornado.web import HTTPError

    try:
        if model["type"] == "notebook" and model.get("content"):
            register_environment()
            model["content"] = clean(model["content"])
        if model["type"] == "file" and model.get("format") == "text":
            register_environment()
            model["content"] = redact(model["content"])
    except Exception as error:
        raise HTTPError(500, "Not saved: the secrets could not be taken out of this file.") from error
