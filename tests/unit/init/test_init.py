"""`runbook init`: which files it writes, which it leaves, and what each leaves to decide."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook_lib import cli
from runbook_lib.config.loading import read
from runbook_lib.config.open_points import open_points
from runbook_lib.documents import load_target
from runbook_lib.errors import ParametersError
from runbook_lib.init.writing import init

from .conftest import Made

GITHUB, GITLAB = ".github/workflows/rollback-rehearsal.yml", ".gitlab-ci.yml"
PARAMETERS = ["parameters/production.yaml", "parameters/rehearsal.yaml", "parameters/stack.yaml"]
SHOP = {
    "Procfile": "web: uvicorn shop:app --port $PORT\n",
    "requirements.txt": "fastapi\n",
    "Makefile": "build:\n\tgit rev-parse HEAD > REVISION\n",
    ".env.example": "DATABASE_URL=postgresql+psycopg://shop:secret@localhost/shop\nPORT=8000\n",
    "alembic.ini": "[alembic]\nscript_location = %(here)s/migrations\n",
    "shop.py": '@app.get("/health")\n',
}
TWO = {"api/package.json": '{"scripts": {"build": "x"}}', "web/package.json": '{"scripts": {"build": "y"}}'}
STACK = ("REHEARSAL_ROOT", "REHEARSAL_PG_BIN", "REHEARSAL_WEB_URL")


def test_every_file_of_an_empty_repository_is_written_and_asks(repository: Made) -> None:
    folder = repository({})
    made = init(folder)

    assert made.files == [*PARAMETERS, GITHUB, GITLAB]
    assert sorted(made.asked) == PARAMETERS
    for name in PARAMETERS:
        with pytest.raises(ParametersError, match="to decide"):
            read(folder / name)


def test_a_target_loads_once_its_open_points_are_filled_in(repository: Made) -> None:
    folder = repository(SHOP)
    init(folder)
    file = folder / "parameters/rehearsal.yaml"
    (asked,) = open_points(file.read_text())
    version = '{url: "${REHEARSAL_WEB_URL}/health", field: version}'
    file.write_text(file.read_text().replace("null  #", f"{version}  #"))

    target = load_target(file, {**dict.fromkeys(STACK, "http://localhost:1"), "REHEARSAL_APPLICATION_ROLE": "shop"})
    assert asked.key == "services.versions.web"
    assert (target.services.built_from, target.repositories["shop"].build) == ({"web": "shop"}, ["make", "build"])


def test_a_stack_comes_from_before_the_release_to_the_release(repository: Made) -> None:
    folder = repository(SHOP)
    init(folder)
    stack = read(folder / "parameters/stack.yaml")

    (before, backup), (release,) = stack["database"]["fill"], stack["database"]["release"]
    assert "git restore --source=${RELEASED} -- migrations/versions" in before["run"][-1]
    assert (list(backup), release["run"]) == (["backup"], ["alembic", "upgrade", "head"])
    web = stack["services"]["run"]["web"]
    assert web["command"] == ["uvicorn", "shop:app", "--port", "${REHEARSAL_WEB_PORT}"]
    assert web["environment"]["DATABASE_URL"] == "postgresql+psycopg://"
    assert stack["health"] == {"web": {"url": "${REHEARSAL_WEB_URL}/health"}}


def test_what_two_files_say_is_asked_with_both(repository: Made) -> None:
    folder = repository(TWO)
    made = init(folder)

    (asked,) = [each.asked for each in made.asked["parameters/rehearsal.yaml"] if each.key.endswith(".build")]
    assert "api/package.json says" in asked
    assert "web/package.json says" in asked


def test_what_is_there_is_left_as_it_is(repository: Made) -> None:
    folder = repository({"parameters/stack.yaml": "mine: 1\n", GITLAB: "build: {script: make}\n"})
    made = init(folder)

    assert (folder / "parameters/stack.yaml").read_text() == "mine: 1\n"
    assert (folder / GITLAB).read_text() == "build: {script: make}\n"
    assert made.left == ["parameters/stack.yaml"]
    assert ".gitlab/rollback-rehearsal.yml" in made.files


def test_a_second_time_nothing_is_written(repository: Made) -> None:
    folder = repository(SHOP)
    first = init(folder)
    second = init(folder)

    assert (second.files, second.left) == ([], first.files)


@pytest.mark.parametrize(
    ("remote", "file"),
    [("git@github.com:shop/shop.git", GITHUB), ("https://gitlab.shop.example/shop/shop.git", GITLAB)],
)
def test_the_ci_file_is_that_of_the_remote(repository: Made, remote: str, file: str) -> None:
    folder = repository({})
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=folder, check=True)

    assert [name for name in init(folder).files if name not in PARAMETERS] == [file]


def test_the_ci_file_watches_the_migrations_that_were_found(repository: Made) -> None:
    folder = repository(SHOP)
    init(folder)

    described = yaml.safe_load((folder / GITHUB).read_text())
    assert described[True]["pull_request"]["paths"] == ["migrations/versions/**"]  # YAML 1.1 reads `on` as true


def test_as_json_it_says_all_of_that(
    repository: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = repository(SHOP)
    monkeypatch.setattr(sys, "argv", ["runbook", "init", "--folder", str(folder), "--json"])
    cli.main()

    said = json.loads(capsys.readouterr().out)
    assert {"where": "Procfile", "what": "services web"} in said["found"]
    assert (said["written"], said["left"]) == ([*PARAMETERS, GITHUB, GITLAB], [])
    assert said["to_decide"]["parameters/rehearsal.yaml"][0]["key"] == "services.versions.web"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="There is no folder"):
        init(tmp_path / "nowhere")
