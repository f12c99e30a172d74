"""The targets of a fleet are found by a query of a directory database, or as files; what cannot be found has one error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.errors import AdapterError, ParametersError, RunbookError
from runbook_lib.fleet import FleetRun, open_new, walk
from runbook_lib.fleet.engines import Engine
from runbook_lib.rehearsal.tenants import SERVICE, Tenants

from ...support.fleets import words

pytestmark = pytest.mark.newest

LISTED = "SELECT name, host, database FROM tenants WHERE release = 77 ORDER BY name DESC"
DIRECTORY = """
CREATE TABLE tenants (name text, host text, database text, release int);
INSERT INTO tenants VALUES
    ('alpha', 'east', 'shop_t001', 77), ('beta', 'west', 'shop_t002', 77), ('other', 'east', 'none', 76);
GRANT SELECT ON tenants TO PUBLIC;
CREATE FUNCTION noted() RETURNS text LANGUAGE sql AS $$ INSERT INTO tenants VALUES ('noted') RETURNING name $$;
"""


@pytest.fixture
def directory(shops: Tenants) -> Iterator[Tenants]:
    """The tenants with a directory of them, and services of two hosts, of one that is down and of the directory."""
    with shops.server.connect(dbname=shops.template.name) as connection:
        connection.execute(DIRECTORY)
    own = shops.service_file.read_text()
    known = [own.replace(f"[{SERVICE}]", f"[{name}]") for name in (SERVICE, "east", "west")]
    shops.service_file.write_text("".join([*known, "[down]\nhost=127.0.0.1\nport=1\n"]))
    template = yaml.safe_load((shops.root / "template.yaml").read_text())
    template["database"] |= {"service": "{target.host}", "dbname": "{target.database}"}
    template["backups"]["pattern"] = "t001.dump"
    (shops.root / "template.yaml").write_text(yaml.safe_dump(template))
    yield shops


def opened(shops: Tenants, **changed: Any) -> FleetRun:
    return open_new(shops.write(**changed), operator="a test", reason="a test", outputs=shops.root / "outputs")


def queried(sql: str, service: str = SERVICE) -> dict[str, Any]:
    return {"query": {"service": service, "sql": sql}}


def test_a_query_lists_the_targets_and_their_labels(directory: Tenants, engine: Engine) -> None:
    run = opened(directory, targets=queried(LISTED), server="{target.host}")

    found = {name: (about["server"], about["labels"]["database"]) for name, about in run.state.targets.items()}
    assert [*found.items()] == [("beta", ("west", "shop_t002")), ("alpha", ("east", "shop_t001"))]
    walk.preview(run, engine)
    assert words(run) == {"beta": "previewed", "alpha": "previewed"}


def test_targets_share_a_server_by_their_service(directory: Tenants) -> None:
    run = opened(directory, targets=queried("SELECT name, 'east' AS host, database FROM tenants WHERE release = 77"))

    assert {about["server"] for about in run.state.targets.values()} == {"east"}


REFUSED = {
    "DELETE FROM tenants RETURNING name": "the query is refused: it is no single query",
    "WITH gone AS (DELETE FROM tenants RETURNING name) SELECT * FROM gone": "the query is refused: it writes",
    "SELECT host FROM tenants": "a row has no `name`",
    "SELECT NULL AS name": "a row has no `name`",
    "SELECT name FROM tenants WHERE release = 0": "no target was found",
    "SELECT 'a' AS name, host, 'b' AS database FROM tenants": "two targets are called a",
    "SELECT '../a' AS name": "'../a' cannot name a target",
    "SELECT 'a' AS name, 1 AS \"no label\"": "the label 'no label' cannot be used",
    "SELECT 'a' AS name, 'east' AS host": "a has no label 'database', which .*template.yaml, key database.dbname",
}
UNANSWERED = {
    ("SELECT noted() AS name", SERVICE): "cannot execute INSERT in a read-only transaction",
    ("SELECT name FROM nowhere", SERVICE): 'relation "nowhere" does not exist',
    (LISTED, "down"): "The database cannot be reached: .*Connection refused",
    (LISTED, "unknown"): 'definition of service "unknown" not found',
}


def test_each_wrong_query_has_one_error_and_makes_nothing(directory: Tenants) -> None:
    wrong: list[tuple[type[RunbookError], dict[str, Any], str]] = [
        *((ParametersError, queried(sql), said) for sql, said in REFUSED.items()),
        *((AdapterError, queried(*of), f"key targets.query: .*{said}") for of, said in UNANSWERED.items()),
    ]
    for kind, changed, said in wrong:
        with pytest.raises(kind, match=f"(?s){said}") as raised:
            opened(directory, targets=changed)
        assert str(directory.root) in str(raised.value)
        assert (raised.value.state, bool(raised.value.safe_next)) == ("Nothing was touched.", True)
    assert not (directory.root / "outputs").exists()
    with directory.server.connect(dbname=directory.template.name) as connection:
        assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (3,)


def test_a_glob_takes_each_file_as_a_target(shops: Tenants, tmp_path: Path, engine: Engine) -> None:
    template = (shops.root / "template.yaml").read_text()
    for name in ("t002", "t001"):
        (tmp_path / f"target-{name}.yaml").write_text(template.replace("{target.name}", name))
    (tmp_path / "target-folder.yaml").mkdir()

    run = opened(shops, targets={"glob": str(tmp_path / "target-*.yaml")}, template=None)
    walk.preview(run, engine)

    assert words(run) == {"shop-t001": "previewed", "shop-t002": "previewed"}


def test_a_wrong_file_of_a_glob_is_named(shops: Tenants, tmp_path: Path) -> None:
    template = yaml.safe_load((shops.root / "template.yaml").read_text().replace("{target.name}", "t001"))
    del template["backups"]
    (tmp_path / "target-t001.yaml").write_text(yaml.safe_dump(template))

    with pytest.raises(ParametersError, match="the target shop-t001: backups: missing") as raised:
        opened(shops, targets={"glob": str(tmp_path / "target-*.yaml")}, template=None)

    assert f"Correct it in {tmp_path / 'target-t001.yaml'}" in raised.value.safe_next
    assert not [*(shops.root / "outputs").glob("*"), *(shops.root / "outputs").glob(".*")]
