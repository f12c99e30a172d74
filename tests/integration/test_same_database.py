"""Whether a backup is of the database that it is to be restored over."""

from collections.abc import Callable

import psycopg
import pytest

from runbook_lib.rehearsal.database import Database, dump

from ..support.bare import Bare, words

OPTIONS = {"restore-staging": "C", "restore-media-url": "R", "clear-backfill": "A"}  # of the steps that read a backup
OTHER_ROWS = "UPDATE messages SET content = 'of another firm ' || id, created_at = created_at - interval '400 days'"


@pytest.fixture
def other(target: Bare) -> Callable[..., None]:
    """Put a dump of another database with like tables in the place of the backup, under the live one's name or its own."""

    def backed_up(*statements: str, under_its_own_name: bool = False) -> None:
        live = target.database
        clone = live.clone(f"{live.name}_other")
        with psycopg.connect(clone.conninfo(clone.application), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]
        for path in (target.root / "backups").iterdir():
            path.unlink()
        kept = f"{live.name}_kept"
        names = [] if under_its_own_name else [(live.name, kept), (clone.name, live.name)]
        rename(live, *names)
        dump(clone if under_its_own_name else live, target.root / "backups")
        rename(live, *((new, old) for old, new in reversed(names)))
        clone.drop()

    return backed_up


def rename(of: Database, *names: tuple[str, str]) -> None:
    with of.server.connect() as connection:
        for old, new in names:
            connection.execute(f'ALTER DATABASE "{old}" RENAME TO "{new}"')  # type: ignore[call-overload]


def planned(target: Bare, step: str = "restore-staging") -> str:
    target.plan["backfills"][0]["cleared"] = "dump"  # which reads the backup too
    target.steps(step)
    return words(target.planned(OPTIONS[step]).text)


@pytest.mark.parametrize("step", OPTIONS)
def test_a_dump_of_another_database_is_unknown_before_the_approval(
    target: Bare, other: Callable[..., None], step: str
) -> None:
    other(OTHER_ROWS)
    target.ask("UPDATE messages SET media_url = NULL WHERE id = 3")

    said = planned(target, step)

    assert "of 600 sampled rows of public.messages the live database has 600 keys, 0 with the same values" in said
    assert "To execute it:" not in said
    assert "same-database: REASON" in said


def test_a_dump_under_another_name_is_unknown_though_its_rows_agree(target: Bare, other: Callable[..., None]) -> None:
    other(under_its_own_name=True)

    said = planned(target)

    assert f"is of the database {target.database.name}_other" in said
    assert "To execute it:" not in said


def test_a_dump_whose_users_wrote_much_since_is_of_the_same_database(target: Bare, other: Callable[..., None]) -> None:
    other()
    target.ask("UPDATE messages SET content = 'changed', media_url = NULL, attachments = '[]' WHERE id % 3 <> 0")
    target.ask("DELETE FROM messages WHERE id % 4 = 0")

    said = planned(target)

    assert "✔ PASS The backup is of this database" in said
