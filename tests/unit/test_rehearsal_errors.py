import os
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError, ParametersError, PreconditionError
from runbook_lib.postgres import programs
from runbook_lib.rehearsal import postgres
from runbook_lib.rehearsal.postgres import external_server
from runbook_lib.rehearsal.rehearse import Rehearsed, in_short, matrix, rehearse
from runbook_lib.rehearsal.stack_file import named
from runbook_lib.rehearsal.workspace import StackError


def test_an_unknown_fault_names_the_known_ones() -> None:
    with pytest.raises(StackError) as raised:
        named("sample").fault("gremlins")
    assert "frontend-errors" in raised.value.safe_next


def test_what_does_not_end_as_expected_is_not_counted() -> None:
    ended = [Rehearsed("slow", "", "full", "verified", 0, 9.6), Rehearsed("corrupt-data", "", "", "unknown", 4, 2.0)]
    assert in_short(ended) == [
        "1 of 2 scenarios ended as expected, in 12 s:",
        "  slow: full verified, 10 s",
        "  corrupt-data: nothing unknown, 2 s",
    ]


def test_an_unknown_stack_names_the_known_ones() -> None:
    with pytest.raises(ParametersError) as raised:
        named("cobol")
    assert raised.value.safe_next == "Name one of: compose, node, sample."


def test_a_socket_path_too_long_for_the_system_is_refused_at_once(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    root.mkdir()
    with pytest.raises(StackError, match="too long"):
        postgres.initialise(root)
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a user namespace")
def test_root_without_user_namespaces_is_shown_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    programs.user_namespace.cache_clear()
    with pytest.raises(AdapterError, match="no user namespace"):
        programs.user_namespace()


def test_without_git_no_sample_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PreconditionError, match="no git"):
        rehearse("slow", 200, said.append)
    assert said == []


def test_without_a_chromium_no_sample_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    git = tmp_path / "git"
    git.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.delenv("RUNBOOK_CHROMIUM", raising=False)

    with pytest.raises(PreconditionError, match="no Chromium") as raised:
        matrix(200, said.append)
    assert "playwright install chromium" in raised.value.safe_next
    assert said == []


def test_an_external_server_that_does_not_answer_is_named_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(StackError) as raised:
        external_server(f"host={tmp_path} password=canary")
    assert raised.value.where == "REHEARSAL_SERVER"
    assert "canary" not in str(raised.value)
