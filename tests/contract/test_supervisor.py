"""What holds for supervisord alone, and for any manager that is reached by commands."""

from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.results import Status
from runbook_lib.services import Restart, connect
from runbook_lib.services.commands import Commands, CommandsTarget
from runbook_lib.services.supervisor import call
from runbook_lib.system.processes import LocalProcesses

from ..support.managers import by_socket, start_and_hear
from ..support.supervisor import Supervisord
from ..support.waiting import until


def test_supervisor_starts_a_stopping_service_once_it_has_ended(supervisord: Supervisord) -> None:
    services = connect(by_socket(supervisord), LocalProcesses())
    services.start("stubborn")
    before = supervisord.pids("stubborn")
    call(supervisord.socket, "stopProcess", "stubborn", False)
    try:
        services.start("stubborn")

        assert services.is_running("stubborn")
        assert supervisord.pids("stubborn") != before
    finally:
        services.stop("stubborn")


def test_a_log_of_errors_apart_is_read_too(supervisord: Supervisord) -> None:
    services = connect(by_socket(supervisord), LocalProcesses())
    services.start("split")
    until(lambda: any("ERROR apart" in line for line in services.logs("split", None)), "the error is read")
    services.stop("split")


def test_lines_that_were_rotated_away_are_read_first(supervisord: Supervisord) -> None:
    services = connect(by_socket(supervisord), LocalProcesses())
    start_and_hear(services, "web")
    rotated = supervisord.root / "web.log.1"
    rotated.write_text("2026-01-01T00:00:00.000+00:00 INFO long ago\n")
    try:
        assert services.logs("web", None)[0].endswith("long ago")
    finally:
        rotated.unlink()
        services.stop("web")


def test_a_log_that_was_removed_is_an_error(supervisord: Supervisord) -> None:
    services = connect(by_socket(supervisord), LocalProcesses())
    start_and_hear(services, "stubborn")
    services.stop("stubborn")
    log, aside = supervisord.root / "stubborn.log", supervisord.root / "aside"
    log.rename(aside)
    try:
        with pytest.raises(AdapterError, match=r"stubborn cannot be read"):
            services.logs("stubborn", None)
    finally:
        aside.rename(log)


def test_a_command_without_an_answer_is_not_a_stopped_service(tmp_path: Path) -> None:
    described = CommandsTarget(
        manager="commands",
        commands=Commands(list=["true"], running=["false"], stop=["true"], start=["true"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )
    with pytest.raises(AdapterError, match="unknown"):
        connect(described, LocalProcesses()).is_running("web")


def test_a_program_that_a_start_would_miss_is_named_beforehand(tmp_path: Path) -> None:
    described = CommandsTarget(
        manager="commands",
        commands=Commands(list=["true"], running=["true"], stop=["true"], start=["bin/start"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )

    [look] = connect(described, LocalProcesses()).looks(Restart(["web"]))

    assert look.find() == (Status.FAIL, "not here, or not to be run: bin/start")


def test_a_service_that_runs_on_after_its_stop_command_is_an_error(tmp_path: Path) -> None:
    described = CommandsTarget(
        manager="commands",
        commands=Commands(list=["true"], running=["echo", "yes"], stop=["true"], start=["true"], logs=["true"]),
        directory=str(tmp_path),
        timeout=1,
        versions={},
        built_from={},
    )
    with pytest.raises(AdapterError, match="web did not stop within 1 s"):
        connect(described, LocalProcesses()).stop("web")
