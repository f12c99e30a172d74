"""The data and the repositories of the rehearsal stack, for real."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.rehearsal.database import Database, create_database, spoil
from runbook_lib.rehearsal.postgres import Server, binaries, debian_programs, embedded_server
from runbook_lib.rehearsal.stack import stack
from runbook_lib.rehearsal.stack_file import Fault

from ...support.sample import FAULTS, FEATURE, RELEASE, SAMPLE, SOUND, create_backend, create_frontend
from ...support.stack_access import ROWS, api, git


@pytest.fixture(scope="module", params=[pytest.param(15, id="pg15", marks=pytest.mark.older), pytest.param(18, id="pg18")])
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    programs = binaries() if request.param == 18 else debian_programs(request.param)
    if programs is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed; `.ci/setup test` installs it, as root on Debian 12")
    with embedded_server(programs) as it:
        yield it


KINDS = {
    "no media": "media_url IS NULL AND attachments = '[]'",
    "legacy only": """attachments = jsonb_build_array(
        jsonb_build_object('type', media_type, 'url', media_url, 'source', 'legacy_migration'))""",
    "manual only": 'media_url IS NULL AND attachments @> \'[{"source": "upload"}]\'',
    "legacy, then manual": "attachments[0]->>'source' = 'legacy_migration' AND attachments[1]->>'source' = 'upload'",
    "manual, then legacy": "attachments[0]->>'source' = 'upload' AND attachments[-1]->>'source' = 'legacy_migration'",
    "mixed with several manual": """attachments @> '[{"source": "legacy_migration"}]'
        AND jsonb_array_length(attachments) = 3""",
    "legacy with a caption": "attachments @> '[{\"source\": \"legacy_migration\"}]' AND attachments[0] ? 'caption'",
    "legacy with another url": "attachments[0]->>'source' = 'legacy_migration' AND attachments[0]->>'url' <> media_url",
    "null": "attachments IS NULL",
    "reply": "replied_to_message_id IS NOT NULL",
    "reply with legacy": 'replied_to_message_id IS NOT NULL AND attachments @> \'[{"source": "legacy_migration"}]\'',
}
COUNTS_AT_200 = {
    "no media": 117,
    "legacy only": 45,
    "manual only": 10,
    "legacy, then manual": 7,
    "manual, then legacy": 7,
    "mixed with several manual": 6,
    "legacy with a caption": 4,
    "legacy with another url": 3,
    "null": 7,
    "reply": 32,
    "reply with legacy": 11,
}


def content(database: Database) -> str:
    with psycopg.connect(database.conninfo(database.runbook)) as connection:
        hashes = [
            connection.execute(f"SELECT sum(hash_record_extended(t, 0)) FROM {table} t").fetchone()
            for table in ("users", "conversations", "messages")
        ]
    return repr(hashes)


def test_data_hold_every_kind_of_row_and_are_the_same_every_time(postgres: Server, tmp_path: Path) -> None:
    database = create_database(postgres, ROWS, tmp_path)
    first = content(database)
    with psycopg.connect(database.conninfo(database.runbook)) as connection:
        counts = {
            kind: connection.execute(f"SELECT count(*) FROM messages WHERE {condition}").fetchone()[0]  # type: ignore[index]
            for kind, condition in KINDS.items()
        }
        history = connection.execute("SELECT version FROM schema_migrations ORDER BY 1").fetchall()
        strangers = connection.execute(
            "SELECT count(*) FROM messages r JOIN messages o ON o.id = r.replied_to_message_id"
            " WHERE o.id >= r.id OR o.conversation_id <> r.conversation_id"
        ).fetchone()
    clone = database.clone("clone")
    cloned = content(clone)
    database.drop_all()
    again = create_database(postgres, ROWS)
    second = content(again)
    again.drop_all()
    assert counts == COUNTS_AT_200
    assert history == [("037",), ("038",), ("039",)]
    assert strangers == (0,)
    assert first == second == cloned


def test_wrong_password_is_refused(postgres: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres.connect(password="wrong")


def test_stack_on_another_server_leaves_nothing_there(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services.conf"
    services.touch(mode=0o600)
    services.write_text("\n".join(["[other]", *(f"{key}={value}" for key, value in postgres.parameters.items())]))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("REHEARSAL_SERVER", "service=other")
    with stack(ROWS) as own:
        assert api(own, "/health")[0] == 200
        monkeypatch.setenv("PGSERVICEFILE", own.environment["PGSERVICEFILE"])
        with psycopg.connect("service=rehearsal") as connection:
            assert connection.info.dbname == own.database.name != "social_selling"
            assert connection.info.host == postgres.parameters["host"]
        assert own.environment["REHEARSAL_PG_BIN"] == str(postgres.tools)
        own.supervisor.stop("backend", "worker")
        with postgres.connect() as connection:
            connection.execute(f"ALTER DATABASE {own.database.name} RENAME TO kept_aside")
    with postgres.connect() as connection:
        assert connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall() == [("postgres",)]
        assert connection.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").fetchall() == [("postgres",)]


# Repositories


def create_both(directory: Path, fault: Fault) -> tuple[Path, Path]:
    directory.mkdir(exist_ok=True)
    create_backend(directory / "backend", fault)
    create_frontend(directory / "frontend", fault)
    return directory / "backend", directory / "frontend"


def test_histories_are_the_same_whatever_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [git(each, "show-ref") for each in create_both(tmp_path / "first", SOUND)]
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        "[user]\nname = Someone\nemail = someone@example.org\n[commit]\ngpgsign = true\n[core]\nautocrlf = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    second = [git(each, "show-ref") for each in create_both(tmp_path / "second", SOUND)]
    assert first == second


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_feature_reverts_newest_first_and_later_work_stays(fault: Fault, tmp_path: Path) -> None:
    later = {"backend": ["access_log.py"], "frontend": ["src/index.html"]}
    feature_commits = {"backend": ["", "-m1", ""], "frontend": ["", ""]}
    for repository in create_both(tmp_path, fault):
        assert git(repository, "cat-file", "-t", RELEASE) == "tag"
        assert git(repository, "rev-parse", "HEAD") == git(repository.with_suffix(".git"), "rev-parse", "main")
        log = git(repository, "log", "--first-parent", f"--grep={FEATURE}", "--format=%H %P").splitlines()
        mainlines = ["-m1" if len(line.split()) > 2 else "" for line in log]
        assert mainlines == feature_commits[repository.name]
        for line, mainline in zip(log, mainlines, strict=True):
            git(repository, "revert", "--no-edit", *filter(None, [mainline]), line.split()[0])
        assert git(repository, "diff", "--name-only", RELEASE, "HEAD").splitlines() == later[repository.name]
        assert git(repository, "status", "--porcelain") == ""


def test_every_fault_differs_from_the_sound_release_in_the_feature_alone(tmp_path: Path) -> None:
    sound = create_both(tmp_path / "none", SOUND)
    changed = {}
    for fault in FAULTS[1:]:
        spoiled = create_both(tmp_path / fault.name, fault)
        changed[fault.name] = [
            path.name
            for one, other in zip(sound, spoiled, strict=True)
            for path in (one / "messages.py", one / "src" / "app.js", one / "api.py", one / "access_log.py")
            if path.exists() and path.read_text() != (other / path.relative_to(one)).read_text()
        ]
    assert changed == {
        "frontend-errors": ["app.js"],
        "all-media-missing": ["messages.py"],
        "some-media-missing": [],
        "slow": ["messages.py"],
        "wrong-pictures": [],
        "backend-errors": ["messages.py"],
        "media-url-dropped": ["messages.py", "app.js"],
        "corrupt-data": [],
    }


@pytest.mark.parametrize(("fault", "rows"), [("some-media-missing", {9, 30, 51}), ("wrong-pictures", {1})])
def test_a_fault_of_the_data_spoils_the_feature_column_of_its_rows_alone(
    postgres: Server, fault: str, rows: set[int]
) -> None:
    rest = "SELECT md5(string_agg((to_jsonb(m) - 'attachments')::text, '' ORDER BY id)) FROM messages m"
    one = create_database(postgres, 600)
    with psycopg.connect(one.conninfo(one.application), autocommit=True) as application:
        before = dict(application.execute("SELECT id, attachments FROM messages").fetchall())
        untouched = application.execute(rest).fetchone()
        spoil(SAMPLE, one, fault)
        after = dict(application.execute("SELECT id, attachments FROM messages").fetchall())
        changed = {number % 60 for number in before if before[number] != after[number]}
        assert (changed, application.execute(rest).fetchone()) == (rows, untouched)
    one.drop_all()
