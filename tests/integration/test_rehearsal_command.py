"""`runbook rehearse --before`: on which server, with which plan, and as which notebook."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from runbook_lib import records
from runbook_lib.documents import load_plan
from runbook_lib.rehearsal import record
from runbook_lib.rehearsal.postgres import Server

from ..support.bare import Ended, runbook
from .conftest import EMBEDDED

BEFORE = """
CREATE TABLE meters (id int PRIMARY KEY, place text NOT NULL, unit text);
INSERT INTO meters VALUES (1, ' Hall', 'kWh'), (2, 'Yard', NULL);
"""
MOVED = """
CREATE TABLE units (meter int PRIMARY KEY REFERENCES meters, unit text);
INSERT INTO units SELECT id, unit FROM meters WHERE unit IS NOT NULL;
ALTER TABLE meters DROP COLUMN unit;
"""
PLACES = "ALTER TABLE meters ADD COLUMN pulses int;\nUPDATE meters SET place = btrim(place);"
USE = "UPDATE meters SET pulses = 7 WHERE id = 2;\nINSERT INTO meters VALUES (3, 'Roof', 'kWh', 9);"


@dataclass
class Desk:
    """A folder with scripts, and a server."""

    folder: Path
    server: Server

    def rehearsed(self, migration: str, *more: object) -> Ended:
        for name, text in (("before", BEFORE), ("0007_meters", migration), ("use", USE)):
            (self.folder / f"{name}.sql").write_text(text)
        words = ["--before", self.folder / "before.sql", "--migration", self.folder / "0007_meters.sql"]
        return runbook("rehearse", *words, "--server", self.server.conninfo(), *more)

    def said(self, migration: str, *more: object) -> dict[str, Any]:
        return dict(json.loads(self.rehearsed(migration, "--json", *more).text.splitlines()[-1]))


@pytest.fixture
def desk(servers: Callable[[int], Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(record, "OUTPUTS", tmp_path)
    server = servers(EMBEDDED)
    with server.connect() as connection:
        before = connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()
    yield Desk(tmp_path, server)
    with server.connect() as connection:
        assert connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall() == before


def test_a_server_of_ones_own_is_left_as_it_was(desk: Desk) -> None:
    found = desk.said(PLACES, "--use", desk.folder / "use.sql")

    assert (found["outcome"], found["lost"]) == ("verified", [{"object": "meters.pulses", "count": 2}])


def test_a_green_one_alone_leaves_a_record_of_the_schema_and_the_plan(desk: Desk) -> None:
    green = desk.said(PLACES, "--option", "B")
    assert desk.said(MOVED)["outcome"] == "refused"

    (kept,) = records.kept(records.next_to(desk.folder)).records
    assert (kept.walk.feature, kept.walk.outcome, kept.walk.seconds) == ("0007_meters", "verified", green["seconds"])
    assert (kept.subject.type, kept.subject.option, kept.subject.catalog) == ("migration", "B", green["catalog"])
    assert (len(kept.subject.catalog), kept.subject.code) == (64, {})


def test_what_a_person_writes_for_it_is_a_plan_once_it_is_filled_in(desk: Desk) -> None:
    plan = desk.said(PLACES)["plan"]

    assert (plan["migration"]["versions"], plan["draft"]["sha256"], "decide" in plan) == (["0007"], None, False)
    plan["draft"]["sha256"] = "ab" * 32
    file = desk.folder / "plan.yaml"
    file.write_text(yaml.safe_dump(plan, sort_keys=False))
    assert "take-back" in load_plan(file).types["full"].steps


def test_the_plan_names_what_is_to_be_decided_and_then_serves(desk: Desk) -> None:
    refused = desk.said(MOVED)
    assert (refused["outcome"], refused["plan"]["decide"]) == ("refused", {"meters.unit": None})

    decided = {"columns": ["unit"], "from": "units", "match": "units.meter = meters.id"}
    file = desk.folder / "plan.yaml"
    file.write_text(yaml.safe_dump(refused["plan"]))
    undecided = desk.rehearsed(MOVED, "--plan", file)
    assert (undecided.exit_code, "decide.meters.unit" in undecided.text) == (2, True)
    file.write_text(yaml.safe_dump({**refused["plan"], "decide": {"meters": decided}}))
    found = desk.said(MOVED, "--plan", file)

    assert (found["outcome"], found["plan"]["decide"]) == ("verified", {"meters": decided})


def test_a_notebook_of_it_is_executed_and_kept(desk: Desk) -> None:
    file = desk.folder / "meters.ipynb"
    found = desk.said(PLACES, "--use", desk.folder / "use.sql", "--notebook", file)

    notebook = nbformat.read(file, nbformat.NO_CONVERT)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert {cell.metadata.papermill["status"] for cell in code} == {"completed"}
    shown = [output for cell in code for output in cell.outputs]
    assert shown[-1].data["application/json"] == found
    assert (found["outcome"], "VERIFIED in" in str(shown)) == ("verified", True)
    assert desk.server.parameters["password"] not in file.read_text()
    in_words = desk.rehearsed(PLACES, "--notebook", desk.folder / "words.ipynb", "--verbose")
    assert (in_words.exit_code, "repositories:" in in_words.text) == (0, True)
    again = desk.rehearsed(PLACES, "--notebook", file)
    assert (again.exit_code, "is no place for a new notebook" in again.text) == (2, True)


def test_a_notebook_whose_rehearsal_cannot_be_made_says_why(desk: Desk) -> None:
    file = desk.folder / "meters.ipynb"
    ended = desk.rehearsed(PLACES, "--server", f"host={desk.folder}", "--notebook", file)

    assert ended.exit_code != 0
    assert "The server cannot be reached" in ended.text
    assert "The server cannot be reached" in file.read_text()


@pytest.mark.parametrize(
    ("server", "said"),
    [("host={folder}", "The server cannot be reached"), ("my server", "These are no settings of libpq")],
    ids=["out of reach", "no settings"],
)
def test_a_server_that_cannot_be_used_is_one_error(desk: Desk, server: str, said: str) -> None:
    ended = desk.rehearsed(PLACES, "--server", server.format(folder=desk.folder))

    assert (ended.exit_code, said in ended.text, "Nothing was changed." in ended.text) == (2, True, True)


def test_a_database_to_keep_names_its_server_itself(desk: Desk) -> None:
    ended = desk.rehearsed(PLACES, "--keep", "dbname=kept")

    assert (ended.exit_code, "omit --server" in ended.text) == (2, True)
