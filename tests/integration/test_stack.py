"""The rehearsal stack, for real: its services, its data, its repositories, and how it ends."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest

from runbook_lib.rehearsal.data import create_database, spoil
from runbook_lib.rehearsal.database import Database
from runbook_lib.rehearsal.errors import StackError
from runbook_lib.rehearsal.faults import FAULTS, Fault
from runbook_lib.rehearsal.polling import until
from runbook_lib.rehearsal.postgres import binaries, clean_environment, embedded_server
from runbook_lib.rehearsal.processes import started
from runbook_lib.rehearsal.repositories import FEATURE, RELEASE, create_backend, create_frontend
from runbook_lib.rehearsal.server import Server, debian_programs
from runbook_lib.rehearsal.stack import Stack, stack
from runbook_lib.rehearsal.workspace import sweep

THREAD = "/api/messaging/conversations/1/messages"
ROWS = 200


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(ROWS) as it:
        yield it


@pytest.fixture(scope="module", params=[pytest.param(15, id="pg15", marks=pytest.mark.older), pytest.param(18, id="pg18")])
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    programs = binaries() if request.param == 18 else debian_programs(request.param)
    if programs is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed; `.ci/setup test` installs it, as root on Debian 12")
    with embedded_server(programs) as it:
        yield it


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short directory in which stacks make theirs."""
    directory = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield directory
    shutil.rmtree(directory)


def request(url: str, token: str = "", body: dict[str, Any] | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = Request(url, json.dumps(body).encode() if body else None, headers)
    answer: HTTPResponse | HTTPError
    try:
        answer = urlopen(asked, timeout=5)
    except HTTPError as error:
        answer = error
    with answer:
        content = answer.read()
        return answer.status or 0, json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()


def api(running: Stack, path: str, token: str | None = None, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    given = running.environment["REHEARSAL_API_TOKEN"] if token is None else token
    return request(running.environment["REHEARSAL_BACKEND_URL"] + path, given, body)


def git(directory: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def pid(running: Stack, service: str) -> int:
    return int(running.supervisor.call("getProcessInfo", service)["pid"])


def processes_of(root: Path) -> list[str]:
    """Living processes that name the root in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid() and started(int(entry.name)):
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(root).encode() in text:
                found.append(f"{entry.name} {text[:200]!r}")
    return found


# Services


def test_every_service_runs_the_version_that_is_checked_out(running: Stack) -> None:
    backend, frontend = (git(running.root / name, "rev-parse", "HEAD")[:12] for name in ("backend", "frontend"))
    assert request(running.environment["REHEARSAL_BACKEND_URL"] + "/health") == (200, {"status": "ok", "version": backend})
    assert request(running.environment["REHEARSAL_FRONTEND_URL"] + "/version.json") == (200, {"version": frontend})
    for service, version in {"backend": backend, "frontend": frontend, "worker": backend}.items():
        first, *_ = running.supervisor.log(service).read_text().splitlines()
        assert re.fullmatch(rf"\S+ INFO {service} version {version} started", first)


def test_api_needs_the_token(running: Stack) -> None:
    assert api(running, THREAD, token="")[0] == 401
    assert api(running, THREAD, token="wrong")[0] == 401


def test_api_serves_what_the_feature_added(running: Stack) -> None:
    status, body = api(running, THREAD)
    assert status == 200
    assert list(body["messages"][5]) == [
        *("id", "content", "mediaType", "mediaUrl", "attachments", "repliedToMessageId", "createdAt"),
    ]
    assert body["messages"][5]["mediaUrl"] == "/media/000006.svg"
    assert [entry["source"] for entry in body["messages"][5]["attachments"]] == ["upload", "legacy_migration"]


def test_api_knows_no_other_conversation(running: Stack) -> None:
    assert api(running, "/api/messaging/conversations/999999/messages")[0] == 404


def test_post_makes_a_message(running: Stack) -> None:
    path = "/api/messaging/conversations/8/messages"
    status, made = api(running, path, body={"content": "hello", "mediaUrl": "/media/000001.svg", "repliedToMessageId": 180})
    assert (status, made["content"], made["repliedToMessageId"], made["attachments"]) == (201, "hello", 180, [])
    assert api(running, path)[1]["messages"][-1] == made
    assert api(running, path, body={"text": "no content"})[0] == 400


def test_frontend_serves_page_assets_pictures_and_api(running: Stack) -> None:
    url = running.environment["REHEARSAL_FRONTEND_URL"]
    status, page = request(f"{url}/conversations/1")
    assert status == 200
    assets = re.findall(r"/assets/\w+\.[0-9a-f]{10}\.(?:js|css)", page)
    assert len(assets) == 2
    assert [request(url + asset)[0] for asset in [*assets, "/favicon.svg"]] == [200, 200, 200]
    assert 'width="320" height="200"' in request(f"{url}/media/000006.svg")[1]
    assert request(f"{url}/media/other.svg")[0] == 404
    assert request(url + THREAD)[0] == 200


def test_environment_holds_what_a_target_needs(running: Stack) -> None:
    assert set(running.environment) == {
        *("REHEARSAL_ROOT", "REHEARSAL_BACKEND_URL", "REHEARSAL_FRONTEND_URL", "REHEARSAL_API_TOKEN"),
        *("REHEARSAL_PG_BIN", "REHEARSAL_PYTHON", "REHEARSAL_APPLICATION_ROLE", "PGSERVICEFILE"),
    }
    assert (Path(running.environment["REHEARSAL_PG_BIN"]) / "pg_dump").is_file()
    services = Path(running.environment["PGSERVICEFILE"])
    assert stat.S_IMODE(services.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.root.stat().st_mode) == 0o700
    assert re.findall(r"^\[(\w+)]$", services.read_text(), re.M) == ["rehearsal", "rehearsal_app", "rehearsal_admin"]


def test_secrets_stand_in_no_log_no_command_line_and_no_representation(running: Stack) -> None:
    shown = repr(running) + "".join(log.read_text() for log in (running.root / "logs").iterdir())
    for service in ("postgres", "backend", "frontend", "worker"):
        shown += Path(f"/proc/{pid(running, service)}/cmdline").read_text()
    secrets = [running.database.runbook.password, running.database.application.password]
    secrets += [running.database.server.parameters["password"], running.environment["REHEARSAL_API_TOKEN"]]
    assert [secret for secret in secrets if secret in shown] == []


def test_backend_refuses_to_start_without_the_file_of_an_applied_migration(running: Stack, tmp_path: Path) -> None:
    shutil.copytree(running.root / "backend" / "dist", tmp_path / "dist")
    (tmp_path / "dist" / "migrations" / "039_message_replies_and_attachments.sql").unlink()
    environment = {**os.environ, **running.environment, "PGSERVICE": "rehearsal_app", "API_TOKEN": "x"}
    command = [sys.executable, "dist/main.py", "--port", "0"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 3
    assert re.search(r" ERROR refusing to start: .*039", result.stdout)


def test_services_outlive_the_database(temporary: Path) -> None:
    with stack(ROWS) as own:
        root, before = own.root, {name: pid(own, name) for name in ("backend", "worker")}
        own.supervisor.stop("postgres")
        version = git(root / "backend", "rev-parse", "HEAD")[:12]
        assert api(own, "/health") == (503, {"status": "database unavailable", "version": version})
        assert api(own, THREAD)[0] == 503
        assert until(lambda: " WARNING " in own.supervisor.log("worker").read_text(), 5)
        assert {name: pid(own, name) for name in before} == before

        own.supervisor.stop("backend")
        assert not own.supervisor.running("backend")
        own.supervisor.start("backend")
        assert until(lambda: " WARNING database unavailable" in own.supervisor.log("backend").read_text(), 5)
        own.supervisor.start("postgres")
        url = own.environment["REHEARSAL_BACKEND_URL"]
        assert until(lambda: answers(url) and api(own, "/health")[0] == 200, 10)
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


def answers(url: str) -> bool:
    try:
        request(url + "/health")
    except OSError:
        return False
    return True


# Data

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


def test_dump_was_taken_between_migration_and_backfill(running: Stack) -> None:
    (dump,) = (running.root / "backups").iterdir()
    assert re.fullmatch(r"backup_before_attachments_backfill_\d{8}_\d{6}\.dump", dump.name)
    restore = [str(binaries() / "pg_restore")]
    listed = subprocess.run([*restore, "-l", dump], env=clean_environment(), capture_output=True, text=True, check=True)
    assert "idx_messages_attachments" in listed.stdout
    shown = subprocess.run([*restore, "-f", "-", dump], env=clean_environment(), capture_output=True, text=True, check=True)
    assert '"source": "upload"' in shown.stdout
    assert "legacy_migration" not in shown.stdout


def test_roles_may_do_what_they_must_and_no_more(running: Stack) -> None:
    database = running.database
    with psycopg.connect(database.conninfo(database.runbook)) as connection:
        granted = connection.execute(
            "SELECT pg_has_role('social_selling_user', 'member'), pg_has_role('pg_monitor', 'member'),"
            " pg_has_role('pg_signal_backend', 'member'), pg_has_role('pg_read_all_data', 'member'),"
            " has_database_privilege(current_database(), 'CREATE'), rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        owner = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert granted == (True, True, True, True, True, False)
    assert owner == [("social_selling_user",)]


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


def test_histories_are_the_same_every_time_whatever_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [git(each, "show-ref") for each in create_both(tmp_path / "first", FAULTS[0])]
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        "[user]\nname = Someone\nemail = someone@example.org\n[commit]\ngpgsign = true\n[core]\nautocrlf = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    second = [git(each, "show-ref") for each in create_both(tmp_path / "second", FAULTS[0])]
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
    sound = create_both(tmp_path / "none", FAULTS[0])
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
def test_a_fault_of_the_data_spoils_the_feature_column_of_its_own_rows_alone(
    postgres: Server, fault: str, rows: set[int]
) -> None:
    rest = "SELECT md5(string_agg((to_jsonb(m) - 'attachments')::text, '' ORDER BY id)) FROM messages m"
    one = create_database(postgres, 600)
    with psycopg.connect(one.conninfo(one.application), autocommit=True) as application:
        before = dict(application.execute("SELECT id, attachments FROM messages").fetchall())
        untouched = application.execute(rest).fetchone()
        spoil(one, fault)
        after = dict(application.execute("SELECT id, attachments FROM messages").fetchall())
        changed = {number % 60 for number in before if before[number] != after[number]}
        assert (changed, application.execute(rest).fetchone()) == (rows, untouched)
    one.drop_all()


# Ends


def owner(rows: int = ROWS) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "runbook_lib.rehearsal", "--rows", str(rows)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=hear_signals)


def hear_signals() -> None:
    """A job in the background has an interrupt ignored, and one under nohup a hangup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def ready_root(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Environment"):
            return Path(line.split()[-1]).parent
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)])
def test_signal_to_the_owner_brings_everything_down(number: signal.Signals, code: int, temporary: Path) -> None:
    process = owner()
    root = ready_root(process)
    assert processes_of(root)
    process.send_signal(number)
    assert process.wait(10) == code
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("sign", ["pg/data/base/1", "supervisor.sock"])
def test_signal_while_starting_brings_everything_down(sign: str, temporary: Path) -> None:
    process = owner()
    assert until(lambda: list(temporary.glob(f"rb-*/{sign}")) != [], 60)
    (root,) = temporary.iterdir()
    process.terminate()
    assert process.wait(30) == 143
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []


def test_killed_owner_leaves_no_process_and_the_next_start_sweeps_its_directory(temporary: Path) -> None:
    process = owner()
    root = ready_root(process)
    process.kill()
    process.wait()
    assert until(lambda: processes_of(root) == [], 6)
    assert root.exists()
    sweep()
    assert list(temporary.iterdir()) == []


def test_exception_brings_everything_down_and_changes_no_permission(temporary: Path) -> None:
    watched = [temporary, *temporary.parents, binaries(), *binaries().parents]
    before = [path.stat().st_mode for path in watched]
    with pytest.raises(ZeroDivisionError), stack(ROWS) as own:
        root = own.root
        raise ZeroDivisionError
    assert processes_of(root) == []
    assert list(temporary.iterdir()) == []
    assert [path.stat().st_mode for path in watched] == before


def test_a_tool_that_is_missing_is_one_clear_error_and_leaves_nothing(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unshare = shutil.which("unshare")
    assert unshare
    (tmp_path / "unshare").symlink_to(unshare)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"No such file or directory: 'git'"), stack(ROWS):
        pytest.fail("it came up without git")
    assert list(temporary.iterdir()) == []
