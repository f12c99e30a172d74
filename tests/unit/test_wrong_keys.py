"""What is typed wrongly is one problem, in one sentence, with its line, and without a secret."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.documents import load_plan, load_target
from runbook_lib.errors import ParametersError
from runbook_lib.rehearsal.stack_file import FOLDER, load_stack

from ..support.places import ROOT, WRITTEN_OUT

SECRET = "hunter2"
LOG = {"kind": "logs", "title": "No errors"}
NO_TEXT = "Input should be text, a number, true, false or null"


def wrong(read: Callable[[Path], Any], file: Path, data: dict[str, Any], key: str, value: Any) -> str:
    """What reading says where `key`, its parts split by slashes, holds `value`."""
    *path, last = key.split("/")
    place: Any = data
    for part in path:
        place = place[part]
    place[last] = value
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(ParametersError) as raised:
        read(file)
    assert raised.value.exit_code == 2
    return raised.value.what.replace(str(file), file.name)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("api/rows", "some", "api.rows: Input should be 'all', but the file has 'some'"),
        ("api/rows", {}, "api.rows: `where`, or `order` and `limit`, is required"),
        ("api/rows", {"order": "a; b", "limit": 1}, "api.rows.order: it must be columns, as created_at DESC, id DESC"),
        ("api/items", "data | x", "api.items: it must be keys parted by dots"),
        ("api/path", f"http://me:{SECRET}@shop.test/x", "api.path: it must be a path that begins with /"),
        ("api/next", {"at": "next", "parameter": ""}, "api.next.parameter: it must not be empty"),
        ("page/media_rules", [{}], "page.media_rules.0: it has no `kind`; add it"),
        ("page/media_rules", [{"kind": "next"}], "there is no kind 'next'; known are next_image, prefix, replace, signed"),
        ("page/texts", [{"text": " "}], "page.texts.0.text: it must be a text"),
        ("page/errors", {"own": [f"https://me:{SECRET}@cdn.test"]}, "page.errors.own.0: it has a user or a password"),
        ("checks/own", {"kind": "http", "title": "t", "url": "http://a.test:99999"}, "checks.own.url: it is no address"),
        ("checks/own", {"kind": "http", "title": "t", "url": "http://a.test", "token": SECRET}, "it must be {env: NAME}"),
        ("checks/own", {"kind": "http", "title": "t", "url": "http://a.test", "json": {"a": {"b": 1}}}, f"a: {NO_TEXT}"),
        ("checks/own", LOG | {"services": ["shpo"]}, "checks.own names 'shpo', which services does not define"),
        ("checks/own", LOG | {"services": None}, "checks.own.services: it must be a list, as [a, b], but the file has null"),
        ("known_before", [{"check": "x", "says": "a", "because": "b"}], "known_before names 'x', which checks does not"),
        ("exercise", [{"sql": "SELECT ?"}], "exercise.0.sql: it cannot be read: syntax error"),
        ("exercise", [{"sql": "SELECT 1; DROP TABLE a"}], "exercise.0.sql: it must be one statement, and holds 2"),
    ],
)
def test_of_a_plan(tmp_path: Path, key: str, value: Any, said: str) -> None:
    found = wrong(load_plan, tmp_path / "plan.yaml", yaml.safe_load(WRITTEN_OUT.read_text()), key, value)

    assert re.match(r"plan.yaml, line \d+: .+\.$", found), found
    assert said in found
    assert SECRET not in found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("metrics", {"url": f"http://me:{SECRET}@metrics.test"}, "metrics.url: it has a user or a password"),
        ("metrics", {"url": "metrics.test:9090"}, "metrics.url: it must be an address"),
        ("metrics", {"url": "http://metrics.test/api/v1/"}, "metrics.url: it must be the address before /api/v1"),
        ("api_token", SECRET, "api_token: it must be {env: NAME}: a secret must not be in a file"),
        ("api_token", {"env": f"{SECRET}!"}, "api_token.env: it must be the name of an environment variable"),
        ("endpoints/backend", "http://a.test?x=1", "endpoints.backend: it must end before ? and #"),
        ("pooler", [{"service": "p", "databases": ["a"]}] * 2, "pooler names the console p twice"),
        ("pooler", {"service": "p", "databases": ["a", "a"]}, "pooler.0.databases: it names a twice"),
        ("commands", {"smoke": {"command": [""]}}, "commands.smoke.command: it must begin with a program"),
        ("repositories/backend/outputs", ["dist", "dist/x"], "dist/x is in dist, which is put in place as a whole"),
        ("repositories/backend/build_limits", {"memory": "2Gi"}, "it must be a number with a unit, as 2GB or 512MiB"),
        ("services/versions/backend", {}, "services.versions.backend: it must hold exactly one of the keys url, log, by"),
        ("services/versions/backend", {"url": "http://a.test"}, "services.versions.backend.field: missing; add it"),
        ("services/versions/backend", {"log": "started"}, "services.versions.backend.log: it has no group"),
        ("services/versions/backend", {"log": "("}, "services.versions.backend.log: it is no regular expression"),
        ("services/listens", {"backend": ["shop"]}, "services.listens.backend.0: it must be a URL or host:port"),
        ("services/listens", {"bakend": ["a:1"]}, "services.listens names 'bakend', which services.versions does not"),
        ("services", {}, "services: it has no `manager`; add it"),
    ],
)
def test_of_a_target(tmp_path: Path, key: str, value: Any, said: str) -> None:
    data = yaml.safe_load((ROOT / "parameters" / "production.example.yaml").read_text())
    found = wrong(lambda file: load_target(file, {}), tmp_path / "target.yaml", data | {"contacts": {}}, key, value)

    assert re.match(r"target.yaml, line \d+: .+\.$", found), found
    assert said in found
    assert SECRET not in found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("extends", "own", "own.yaml extends 'own', which is no other stack"),
        ("faults", ["slow"], "faults: it must hold keys and values"),
        ("health/backend", {"url": "a", "query": "b"}, "health.backend: it must hold exactly one of the keys url, query"),
    ],
)
def test_of_a_stack(tmp_path: Path, key: str, value: Any, said: str) -> None:
    data = yaml.safe_load((FOLDER / "sample.yaml").read_text())

    assert said in wrong(load_stack, tmp_path / "own.yaml", data, key, value)
