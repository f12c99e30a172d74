"""What JupyterLab is given of a run: copies with its parameters, cards, settings, and nothing secret saved."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from runbook_lib.config.plan import Plan
from runbook_lib.journal import Journal
from runbook_lib.journal.folder import RunFolder
from runbook_lib.lab import copies, server
from runbook_lib.redaction import register
from runbook_lib.system import temporary

from ..support.places import ROOT

ALL_PLANS = ["01-triage", "04-verification", "05-close-out", "07-troubleshooting", "08-service-back", "09-undo"]
TOLD = {
    "plan_file": "parameters/a-plan.yaml",
    "target_file": "parameters/rehearsal.yaml",
    "option": "A",
    "operator": 'Ada "the first" Lovelace',
    "reason": "No media",
    "incident": "INC-1",
}


class Opened:
    """As much of a run as its copies need."""

    def __init__(self, path: Path, plan: Plan, type_name: str = "", option: str = "") -> None:
        self.context = SimpleNamespace(plan=plan, type=type_name, option=option or "A")
        self.folder = RunFolder.create(path, "inc", "triage")
        self.journal = Journal(self.folder.journal_path)
        self.state = SimpleNamespace(opened=TOLD, steps={}, choices={"OPTION": option} if option else {})


@pytest.fixture
def run(tmp_path: Path, plan: Plan) -> Any:
    return Opened(tmp_path, plan)


def parameters(notebook: Path) -> dict[str, Any]:
    """What the first two cells of code set."""
    found: dict[str, Any] = {}
    code = [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    for source in code[:2]:
        exec(source, found)
    return found


def test_each_notebook_is_copied_with_the_parameters_of_the_run(run: Any) -> None:
    made = copies.prepare(run)
    triage = parameters(made[0])

    assert [notebook.stem for notebook in made] == ALL_PLANS
    assert {notebook.parent.name for notebook in made} == {"lab"}
    assert (triage["PLAN"], triage["OPERATOR"], triage["INCIDENT"]) == (TOLD["plan_file"], TOLD["operator"], "INC-1")
    assert Path(triage["RUN"]) == run.folder.path.resolve()
    assert triage["TYPE"] == ""


def steps_of(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return re.findall(r'await apply\(run, "(.+)"\)', "\n".join(c.source for c in cells if c.cell_type == "code"))


def test_the_first_notebook_has_the_steps_of_the_chosen_option(tmp_path: Path, plan: Plan) -> None:
    for option in ("A", "B"):
        first = copies.prepare(Opened(tmp_path, plan, "full", option))[0]

        assert first.stem == f"03-full-rollback-option-{option}"
        assert parameters(first)["OPTION"] == option
        assert steps_of(first) == plan.steps_of("full", option)


def test_while_the_option_is_open_its_notebook_has_the_steps_of_all(tmp_path: Path, plan: Plan) -> None:
    first = copies.prepare(Opened(tmp_path, plan, "full"))[0]

    assert first.stem == "03-full-rollback"
    assert steps_of(first) == plan.types["full"].steps


def test_a_type_that_a_notebook_for_all_plans_walks_opens_that(tmp_path: Path, plan: Plan) -> None:
    made = copies.prepare(Opened(tmp_path, plan, "end-sessions"))

    assert (made[0].stem, len(made)) == ("07-troubleshooting", len(ALL_PLANS))


def test_no_cell_of_parameters_is_open(tmp_path: Path, plan: Plan) -> None:
    for made in copies.prepare(Opened(tmp_path, plan, "full", "A")):
        cells = nbformat.read(made, as_version=4).cells
        hidden = {c.metadata["tags"][0]: c.metadata.get("jupyter") for c in cells if c.metadata.get("tags")}

        assert hidden == {tag: {"source_hidden": True} for tag in ("parameters", "injected-parameters")}


def test_the_originals_stay_as_they_are(run: Any) -> None:
    before = [(ROOT / "notebooks" / f"{name}.ipynb").read_bytes() for name in ALL_PLANS]
    copies.prepare(run)

    assert [(ROOT / "notebooks" / f"{name}.ipynb").read_bytes() for name in ALL_PLANS] == before


def test_a_copy_that_was_edited_is_not_overwritten(run: Any) -> None:
    first = copies.prepare(run)[0]
    first.write_text("worked in")
    copies.prepare(run)

    assert first.read_text() == "worked in"
    assert [event.kind for event in run.journal.events()] == ["notebooks-prepared"]


def test_a_type_of_another_plan_has_a_notebook_of_its_own(tmp_path: Path, plan: Plan) -> None:
    own = plan.types["frontend"].model_copy(update={"notebook": None, "steps": ["revert-frontend", "push-frontend"]})
    made = copies.prepare(Opened(tmp_path, plan.model_copy(update={"types": {**plan.types, "our-own": own}}), "our-own"))

    assert [notebook.stem for notebook in made] == ["our-own", *ALL_PLANS]
    assert steps_of(made[0]) == ["revert-frontend", "push-frontend"]


def test_each_notebook_has_a_card_that_opens_the_copy(tmp_path: Path) -> None:
    copies.write_cards(tmp_path / "cards", tmp_path, [tmp_path / "lab" / f"{name}.ipynb" for name in ALL_PLANS])
    written = json.loads((tmp_path / "cards" / "jp_app_launcher.yaml").read_text())

    assert [card["source"][0]["args"]["path"] for card in written] == [f"lab/{name}.ipynb" for name in ALL_PLANS]
    assert [card["title"][:2] for card in written] == [f"{int(name[:2])} " for name in ALL_PLANS]
    assert all((tmp_path / "cards" / card["icon"]).exists() for card in written)


def test_a_secret_is_not_saved_by_jupyterlab() -> None:
    secret = register("lab-canary-secret")
    model = {"type": "notebook", "content": {"cells": [{"outputs": [{"text": f"token {secret}"}]}]}}
    copies.redacted(model, path="lab/01-triage.ipynb", contents_manager=None)

    assert secret not in json.dumps(model)


def test_what_acts_on_the_page_is_not_saved_with_the_notebook() -> None:
    kept = {"model_module": "@jupyter-widgets/controls"}
    state = {"a": kept, "b": {"model_module": "ipylab"}, "c": {"model_module": "@jupyter-widgets/jupyterlab-sidecar"}}
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    model = {"type": "notebook", "content": {"cells": [], "metadata": {"widgets": widgets}}}
    copies.redacted(model)

    content: Any = model["content"]
    assert [each["state"] for each in content["metadata"]["widgets"].values()] == [{"a": kept}]


def test_a_notebook_that_cannot_be_redacted_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ValueError("lab-canary-secret")

    monkeypatch.setattr(copies, "clean", fail)
    with pytest.raises(Exception, match="Not saved") as raised:
        copies.redacted({"type": "notebook", "content": {"cells": []}})

    assert raised.typename == "HTTPError"


def setting(plugin: str) -> Any:
    return json.loads((server.SETTINGS / "overrides.json").read_text())[plugin]


def test_widgets_are_saved_times_recorded_and_nobody_is_asked_for_news() -> None:
    assert setting("@jupyter-widgets/jupyterlab-manager:plugin")["saveState"]
    assert setting("@jupyterlab/notebook-extension:tracker")["recordTiming"]
    assert setting("@jupyterlab/apputils-extension:notification")["fetchNews"] == "false"


def test_the_server_listens_on_loopback_and_hides_its_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: dict[str, Any] = {}

    class Process:
        pid = 1

        def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
            started.update(command=command, token=env["JUPYTER_TOKEN"])
            said = Path(env["JUPYTER_RUNTIME_DIR"]) / "jpserver-1.json"
            said.parent.mkdir()
            said.write_text('{"url": "http://127.0.0.1:8888/"}')

        def poll(self) -> None: ...
        def terminate(self) -> None: ...
        def wait(self, _: float) -> None: ...

    temporary.root()  # what watches it is started by a Popen that is no JupyterLab
    monkeypatch.setattr(server.subprocess, "Popen", Process)
    monkeypatch.setattr(server, "require_extra", lambda _: None)
    with server.serving(tmp_path, [tmp_path / "lab" / "01-triage.ipynb"], {}) as lab:
        assert lab.link == f"http://127.0.0.1:8888/lab/tree/lab/01-triage.ipynb?token={started['token']}"

    assert started["token"] not in " ".join(started["command"])
    assert json.loads((server.SETTINGS / "server.json").read_text())["ServerApp"]["ip"] == "127.0.0.1"


def test_what_is_to_be_opened_must_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    assert "--rehearsal" in refused("lab")
    assert "--rehearsal" in refused("lab", "outputs/some-run", "--rehearsal")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give the command line something to refuse as wrong use; gives what it says."""
    from runbook_lib import cli

    def command(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["runbook", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return command
