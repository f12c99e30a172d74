"""Bad parameters give one clear error before anything is touched."""

import re
from pathlib import Path

import pytest

from runbook_lib.config.plan import RollbackType
from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError
from runbook_lib.run.lifecycle import open_new

from ..support.places import ROOT, WRITTEN_OUT

PLAN = WRITTEN_OUT.read_text()
TARGET = (ROOT / "parameters" / "production.example.yaml").read_text().replace('"[Phone/Slack]"', "+00 0000")
ENVIRONMENT = {"SOCIAL_SELLING_API_TOKEN": "a token for tests"}


def plan_error(tmp_path: Path, old: str, new: str) -> str:
    assert old in PLAN
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace(old, new, 1))
    with pytest.raises(ParametersError) as caught:
        load_plan(file)
    assert "Nothing was touched" in str(caught.value)
    return str(caught.value)


def target_error(tmp_path: Path, old: str, new: str, environment: dict[str, str] | None = None) -> str:
    assert old in TARGET
    file = tmp_path / "target.yaml"
    file.write_text(TARGET.replace(old, new, 1))
    with pytest.raises(ParametersError) as caught:
        load_target(file, ENVIRONMENT if environment is None else environment)
    assert "Nothing was touched" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  table: messages", "  tabel: messages", "database.tabel: unknown key"),
        ("  table: messages\n", "", "database.table: missing"),
        ('versions: ["039"]', "versions: [037]", "migration.versions.0: Input should be a valid string"),
        ('versions: ["039"]', "versions: []", "migration.versions: List should have at least 1 item"),
        ('versions: ["039"]', 'versions: ["039", "039"]', "`versions` names one of them twice"),
        ("tool: plain", "tool: flywya", "there is no migration tool 'flywya'; known are flyway, golang-migrate"),
        ("tool: plain", "tool: django", "Django names a migration by app too: give it under `where`"),
        ("tool: plain", "tool: plain, previous: '038'", "`previous` is of a tool that keeps one row"),
        ("tool: plain", "tool: plain, files: ['(']", "migration.files.0: it is no regular expression"),
        ("  table: messages", "  migration: {version: '1'}\n  table: messages", "database.migration: unknown key"),
        ("tool: plain", "tool: plain, history_table: x", "migration.history_table: unknown key"),
        ("tool: plain", "tool: plain, validate: false", "migration.validate"),
        ("repository: backend, versions", "repository: bakend, versions", "migration names 'bakend'"),
        ("drift_tolerance: 0.01", "drift_tolerance: 2", "database.drift_tolerance"),
        ("edited: keep", "edited: sometimes", "backfills.0.json_list.edited"),
        ("kind: backup", "kind: backpu", "steps.back-up"),
        ("services: [backend, worker, frontend], estimate", "services: [backend, wroker, frontend], estimate", "'wroker'"),
        ("options: [B], mode", "options: [Z], mode", "names 'Z', which the options of types does not define"),
        (
            "steps: [freeze-for-frontend,",
            "steps: [clear-backfill, freeze-for-frontend,",
            "walks 'clear-backfill', which belongs to none of its options",
        ),
        ("steps: [freeze-for-frontend,", "steps: [revert-frontned, freeze-for-frontend,", "'revert-frontned'"),
        ("contacts: [On-Call Engineer,", "contacts: [[On-Call Engineer],", "contacts.0: Input should be a valid string"),
        ("table: messages", "table: messages\n  table: messages", "is there twice"),
        ("feature: FEAT", "feature: [FEAT", "cannot be read as YAML"),
    ],
)
def test_a_bad_plan(tmp_path: Path, old: str, new: str, told: str) -> None:
    message = plan_error(tmp_path, old, new)

    assert told in message
    assert "plan.yaml" in message


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("environment: production", "environment: prod", "environment"),
        ("  timeout: 120", "  timeout: soon", "timeout"),
        ("manager: docker-compose", "manager: kubernetes", "services"),
        ("manager: docker-compose", "manager: systemd", "none could be tested against a real one"),
        ("# pinned: {frontend:", "pinned: {frontned:", "'frontned'"),
        ('# pinned: {frontend: "sha256:…"}', "pinned: {frontend: 'shop/frontend:v1.4.0'}", "a tag, which may name another"),
        ("api_token:", "reference_api: {url: 'http://localhost:3000/'}\napi_token:", "compared with itself"),
        ("api_token:", "reference_api: {url: 'http://old', token: {env: OLD_TOKEN}}\napi_token:", "OLD_TOKEN is not in"),
        ("api_token:", "pooler: {service: a, host: b, databases: [c]}\napi_token:", "either by `service`, or by `host` and"),
        ("api_token:", "pooler: {host: b, databases: [c]}\napi_token:", "either by `service`, or by `host` and `user`"),
        (
            "api_token:",
            "pooler: {host: b, user: d, password: {env: OF_CONSOLE}, databases: [c]}\napi_token:",
            "OF_CONSOLE is not in",
        ),
        ("# pinned: {frontend:", "pinned: {frontend:", "services.versions.frontend must be {by: manager}"),
        (
            "frontend: frontend, worker: backend}",
            "frontend: fronten, worker: backend}",
            "'fronten', which repositories does not define",
        ),
        ('"+00 0000"', '"[Phone]"', "contacts.On-Call Engineer still reads as a placeholder"),
        ("directory: /var/backups", "directory: ${BACKUPS}", "The environment has no BACKUPS"),
        ("api_token: {env: SOCIAL_SELLING_API_TOKEN}", "api_token: a-token-in-the-file", "api_token"),
    ],
)
def test_a_bad_target(tmp_path: Path, old: str, new: str, told: str) -> None:
    if old == '"+00 0000"':
        old = "On-Call Engineer: +00 0000"
        new = 'On-Call Engineer: "[Phone]"'
    message = target_error(tmp_path, old, new)

    assert told in message
    assert "target.yaml" in message


def test_a_missing_secret(tmp_path: Path) -> None:
    message = target_error(tmp_path, "name:", "name:", environment={})

    assert "SOCIAL_SELLING_API_TOKEN is not in the environment" in message


def test_the_production_example_stops_on_its_placeholders() -> None:
    with pytest.raises(ParametersError, match="placeholder"):
        load_target(ROOT / "parameters" / "production.example.yaml", ENVIRONMENT)


def test_the_production_example_is_whole_once_they_are_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "target.yaml"
    file.write_text(TARGET)

    assert load_target(file, ENVIRONMENT).is_production


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  Database Admin: ", "  Database Owner: ", "contacts.Database Admin"),
        ("endpoints:\n  backend:", "endpoints:\n  api:", "endpoints.backend"),
        ("    worker: {by: manager}", "    sender: {by: manager}", "services.versions.worker"),
        ("frontend: frontend, worker: backend}", "frontend: frontend}", "services.built_from.worker"),
    ],
)
def test_a_target_that_lacks_what_the_plan_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, told: str
) -> None:
    monkeypatch.setenv(*next(iter(ENVIRONMENT.items())))
    file = tmp_path / "target.yaml"
    assert old in TARGET
    file.write_text(TARGET.replace(old, new, 1))

    with pytest.raises(ParametersError, match=f"needs of a target: {re.escape(told)}\\.") as caught:
        open_new(ROOT / "parameters" / "feat-2025-20251103111429.yaml", file, "full", outputs=tmp_path / "outputs")

    assert "Nothing was touched" in str(caught.value)
    assert not (tmp_path / "outputs").exists()


def test_a_plan_that_has_changed_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    first, again = load_plan(file), load_plan(file)
    file.write_text(PLAN.replace(first.title, "Another title"))

    assert again == first
    assert load_plan(file).title == "Another title"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ParametersError, match="There is no file"):
        load_plan(tmp_path / "none.yaml")


def test_a_type_that_separates_code_and_data_is_replaced_by_a_larger_one() -> None:
    plan = load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")

    assert plan.carried_out("data") == "full"


@pytest.mark.parametrize(("type_name", "told"), [("data", "Ask the administrator"), ("nonsense", "has no rollback type")])
def test_a_type_that_cannot_be_executed(type_name: str, told: str) -> None:
    plan = load_plan(ROOT / "parameters" / "feat-2025-20251103111429.yaml")
    by_hand = RollbackType(title="Data", by_hand="Ask the administrator.")

    with pytest.raises(ParametersError, match=told):
        plan.model_copy(update={"types": plan.types | {"data": by_hand}}).carried_out(type_name)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "[1, 2]",
            ": Input should be text, a number, true, false, null or {column: NAME}; correct the value.",
        ),
        (
            ".nan",
            ": Input should be text, a number, true, false, null or {column: NAME}, but the file has nan",
        ),
        (
            "2025-11-03",
            ": Input should be a valid string, but the file has 2025-11-03; put quotes",
        ),
        ("{colum: source}", ".colum: unknown key; take it out, or correct its spelling."),
    ],
)
def test_a_value_of_several_types_is_one_problem_with_one_remedy(tmp_path: Path, value: str, said: str) -> None:
    found = plan_error(tmp_path, "\n      source: legacy_migration", f"\n      source: {value}")

    assert f"written.source{said}" in found
    assert found.count("written.source") == (2 if "colum" in value else 1)


def test_a_fraction_may_be_written_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(
        PLAN.replace("\n      source: legacy_migration", "\n      source: legacy_migration\n      ratio: 0.5", 1)
    )

    assert load_plan(file).database.backfill.written["ratio"] == 0.5
