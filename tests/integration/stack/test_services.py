"""The services of the rehearsal stack, for real."""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from runbook_lib.rehearsal.postgres import binaries, clean_environment
from runbook_lib.rehearsal.stack import Stack, stack

from ...support.stack_access import ROWS, THREAD, api, git, pid, request


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    with stack(ROWS) as it:
        yield it


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
        *(
            "REHEARSAL_ROOT",
            "REHEARSAL_FOLDER",
            "REHEARSAL_DATABASE_URL",
            "REHEARSAL_BACKEND_URL",
            "REHEARSAL_FRONTEND_URL",
            "REHEARSAL_API_TOKEN",
        ),
        *("REHEARSAL_BACKEND_PORT", "REHEARSAL_FRONTEND_PORT"),
        *("REHEARSAL_PG_BIN", "REHEARSAL_PYTHON", "REHEARSAL_APPLICATION_ROLE", "PGSERVICEFILE"),
    }
    assert (Path(running.environment["REHEARSAL_PG_BIN"]) / "pg_dump").is_file()
    services = Path(running.environment["PGSERVICEFILE"])
    assert stat.S_IMODE(services.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.root.stat().st_mode) == 0o700
    assert re.findall(r"^\[(\w+)]$", services.read_text(), re.M) == ["rehearsal", "rehearsal_app", "rehearsal_admin"]


def test_secrets_are_in_no_log_no_command_line_and_no_representation(running: Stack) -> None:
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
