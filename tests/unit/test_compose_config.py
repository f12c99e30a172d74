"""What is said of a container that compose would make otherwise now; and of versions and networks that do not fit."""

from pathlib import Path

import pytest

from runbook_lib.results import Status
from runbook_lib.services.compose_config import Made, Now, differing, missing, network_found, unset, verdict
from runbook_lib.services.compose_pairs import failing, version

MADE = Made("old", "2.22.0", "/srv/shop", "/srv/shop/docker-compose.yml", "")
NOW = {"version": "2.22.0", "directory": Path("/srv/shop"), "files": ["docker-compose.yml"], "environment_files": []}


@pytest.mark.parametrize(
    ("made", "now", "keys", "lost", "code_changed", "status", "said"),
    [
        ({}, {}, ["URL"], {"URL": ["PASSWORD"]}, False, Status.FAIL, "URL (PASSWORD is not set here)"),
        ({}, {}, ["URL"], {"URL": ["PASSWORD"]}, True, Status.FAIL, "URL (PASSWORD is not set here)"),
        ({}, {}, ["FLAG"], {}, False, Status.FAIL, "its environment differs: FLAG"),
        ({}, {}, ["FLAG"], {}, True, Status.PASS, "as the code does"),
        ({"files": "/srv/shop/docker-compose.yml,/ci/prod.yml"}, {}, [], {}, False, Status.FAIL, "/ci/prod.yml"),
        (
            {"files": "/srv/shop/docker-compose.yml,/tmp/runbook-pin-x.json"},
            {},
            [],
            {},
            False,
            Status.FAIL,
            "a setting other",
        ),
        ({"environment_files": "/srv/shop/prod.env"}, {}, [], {}, False, Status.FAIL, "env_files /srv/shop/prod.env"),
        ({"hash": ""}, {}, [], {}, False, Status.UNKNOWN, "no hash"),
        ({"version": "1.29.2"}, {}, [], {}, False, Status.UNKNOWN, "made by compose 1.29.2"),
        ({}, {"counts_build": True}, [], {}, False, Status.UNKNOWN, "build arguments"),
        ({}, {"names_containers": True}, [], {}, False, Status.UNKNOWN, "containers of other services"),
        ({}, {}, [], {}, False, Status.FAIL, "a setting other than environment"),
    ],
)
def test_the_report_on_a_container_of_another_hash(
    made: dict[str, str],
    now: dict[str, object],
    keys: list[str],
    lost: dict[str, list[str]],
    code_changed: bool,
    status: Status,
    said: str,
) -> None:
    before = Made(**{**vars(MADE), **made})
    after = Now(**{**NOW, "counts_build": False, "names_containers": False, **now})  # type: ignore[arg-type]

    found = verdict(before, after, keys, lost, code_changed=code_changed)

    assert (found[0], said in found[1]) == (status, True), found


def test_variables_differ_but_for_those_of_engine_and_image() -> None:
    before = {"A": "1", "B": "2", "GONE": "x", "PATH": "/bin", "https_proxy": "p", "LANG": "C"}

    assert differing({"A": "1", "B": "3", "NEW": "y"}, before, {"LANG": "C"}) == ["B", "GONE", "NEW"]


def test_a_variable_is_lost_where_its_text_takes_in_one_that_is_not_set() -> None:
    said = 'level=warning msg="The \\"DB\\" variable is not set. Defaulting"\nWARNING: The TAG variable is not set.'
    raw = {"URL": "postgres://${DB}", "DBX": "$DBX", "PLAIN": "DB", "WITH_DEFAULT": "${TAG:-x}"}

    assert unset(said) == {"DB", "TAG"}
    assert missing(raw, raw, {"DB", "TAG"}) == {"URL": ["DB"], "WITH_DEFAULT": ["TAG"]}
    assert missing(["URL"], None, {"DB"}) == {"URL": ["DB"]}


@pytest.mark.parametrize(
    ("compose", "engine", "issue"),
    [
        ("1.29.2", "20.10.24+dfsg1", ""),
        ("1.29.2", "25.0.3", "12509"),
        ("1.25.0", "28.1.1", "12509"),
        ("v2.22.0", "28.5.2", ""),
        ("2.5.0", "29.0.2", "13389"),
        ("2.24.0", "29.0.2", ""),
        ("5.1.1", "24.0.2", "1305"),
        ("5.1.1", "28.0.0", ""),
    ],
)
def test_versions_that_cannot_recreate_a_container(compose: str, engine: str, issue: str) -> None:
    pair = failing(version(compose), version(engine))

    assert (pair.source.rpartition("/")[2] if pair else "") == issue


def test_a_version_that_begins_with_no_number_is_none() -> None:
    assert version("dev") == ()


@pytest.mark.parametrize(
    ("labels", "external", "compared", "status"),
    [
        ({"com.docker.compose.network": "default"}, False, True, Status.PASS),
        ({}, False, True, Status.FAIL),
        ({}, False, False, Status.PASS),
        ({}, True, True, Status.PASS),
        (None, False, True, Status.PASS),
        (None, True, True, Status.FAIL),
    ],
)
def test_a_network_that_compose_refuses(
    labels: dict[str, str] | None, external: bool, compared: bool, status: Status
) -> None:
    assert network_found("default", "shop_default", labels, external=external, compared=compared)[0] is status
