"""The notebooks of a run or a fleet: parameterised copies in its folder, so that the originals are never edited."""

import ast
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.checks.prerequisites import NOTEBOOKS
from runbook_lib.config.loading import ROOT
from runbook_lib.fleet import FleetRun
from runbook_lib.headless import rendering
from runbook_lib.headless.papermill_io import clean
from runbook_lib.journal.folder import RunFolder, make_private
from runbook_lib.redaction import redact, register_environment
from runbook_lib.run import Run
from runbook_lib.system import temporary

DIRECTORY, FLEET = "lab", "10-fleet"
OF_THE_PAGE = ("@jupyter-widgets/jupyterlab-sidecar", "ipylab")


def prepare(run: Run) -> list[Path]:
    """Copy the notebooks of a run into its folder, their parameters injected; a copy that exists stays as it is.

    The first is that of the run's type and option, once these are known; the others serve all plans.
    """
    directory = run.folder.path.resolve() / DIRECTORY
    make_private(directory)
    parameters = _parameters(run)
    with temporary.directory() as own:
        sources = [*_of_type(run, own), *(each for each in rendering.all_for_all_plans() if "RUN" in _known(each))]
        missing = [source for source in sources if not (directory / source.name).exists()]
        for source in missing:
            _copy(source, directory / source.name, parameters)
    if missing:
        run.journal.append("notebooks-prepared", directory=DIRECTORY, notebooks=[source.stem for source in missing])
    return list(dict.fromkeys(directory / source.name for source in sources))


def prepare_fleet(run: FleetRun) -> Path:
    """Copy the notebook of a fleet into its folder, its parameters injected; a copy that exists stays as it is."""
    directory = run.folder.path.resolve() / DIRECTORY
    make_private(directory)
    copy = directory / f"{FLEET}.ipynb"
    if not copy.exists():
        about = {name.upper(): str(run.state.opened[name]) for name in ("operator", "reason", "incident")}
        _copy(NOTEBOOKS / copy.name, copy, {"FLEET": _place(run.folder), **about})
        run.journal.append("notebooks-prepared", directory=DIRECTORY, notebooks=[FLEET])
    return copy


def _of_type(run: Run, own: Path) -> list[Path]:
    """The notebook of the run's type, rendered into `own` unless it serves all plans; none without a type."""
    plan, name = run.context.plan, run.context.type
    if not name:
        return []
    there = rendering.for_all_plans(rendering.name_of(plan, name))
    return [there or rendering.written(plan, name, _option(run), run.state.opened["plan_file"], own)]


def _option(run: Run) -> str:
    """The option of the run, "" while several are possible."""
    options = run.context.plan.types[run.context.type].options
    known = len(options) == 1 or run.state.steps or "OPTION" in run.state.choices
    return run.context.option if options and known else ""


def _parameters(run: Run) -> dict[str, str]:
    """The parameters of the notebooks; paths are relative to the project, so that a copy can be opened elsewhere."""
    opened = run.state.opened
    return {
        "PLAN": opened["plan_file"],
        "TARGET": opened["target_file"],
        "OPTION": run.context.option,
        "OPERATOR": opened["operator"],
        "REASON": opened["reason"],
        "INCIDENT": opened["incident"],
        "RUN": _place(run.folder),
    }


def _place(folder: RunFolder) -> str:
    """The folder's path, from the project where it is in there."""
    path = folder.path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _copy(source: Path, copy: Path, parameters: Mapping[str, str]) -> None:
    import papermill

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns about a comment that it cannot parse
    known = _known(source)
    papermill.execute_notebook(
        str(source),
        f"runbook://{copy}",
        {name: value for name, value in parameters.items() if name in known},
        kernel_name="python3",
        prepare_only=True,
        progress_bar=False,
    )
    _collapse(copy)


def _collapse(copy: Path) -> None:
    """Hide the source of the injected cell in JupyterLab: the banner shows the same."""
    notebook = json.loads(copy.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["metadata"]["jupyter"] = {"source_hidden": True}
    copy.write_text(json.dumps(notebook, indent=1, ensure_ascii=False), encoding="utf-8")


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
    """Write the cards for jupyter-app-launcher as JSON, which is valid YAML.

    A title starts with the notebook's number, as JupyterLab shows its first letter large.
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


def _forget_the_page(notebook: Mapping[str, Any]) -> None:
    """Remove widgets that act on the page, such as a panel, from the saved state: reopened, they would not work."""
    saved = notebook.get("metadata", {}).get("widgets", {}).values()
    for state in (each["state"] for each in saved):
        for name in [name for name, one in state.items() if one.get("model_module") in OF_THE_PAGE]:
            del state[name]


def redacted(model: dict[str, Any], **_: Any) -> None:
    """Redact a notebook or a text before it is written; a hook of Jupyter Server's contents manager.

    Raises:
        HTTPError: Redaction failed; with any other error the server would save the file unredacted.
    """
    from tornado.web import HTTPError

    try:
        if model["type"] == "notebook" and model.get("content"):
            register_environment()
            model["content"] = clean(model["content"])
            _forget_the_page(model["content"])
        if model["type"] == "file" and model.get("format") == "text":
            register_environment()
            model["content"] = redact(model["content"])
    except Exception as error:
        raise HTTPError(500, "Not saved: this file could not be redacted.") from error
