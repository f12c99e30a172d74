"""What holds for pm2 alone."""

import json
import traceback
from pathlib import Path

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.system.processes import ScriptedProcesses

from ..support.managers import by_pm2
from ..support.pm2 import CANARY, Pm2


def test_pm2_refuses_a_process_started_by_the_clock_even_when_stopped(pm2: Pm2) -> None:
    pm2("start", "service.js", "--name", "by-the-clock", "--cron-restart", "* * * * * *", "--", "web")
    try:
        with pytest.raises(AdapterError, match="cron_restart"):
            by_pm2(pm2).stop("by-the-clock")
    finally:
        pm2("delete", "by-the-clock")


def test_pm2_never_launches_a_file_or_all_by_the_name_of_a_service(pm2: Pm2) -> None:
    (pm2.root / "file").write_text("")
    services = by_pm2(pm2)
    for name in ("file", "all", "0"):
        with pytest.raises(AdapterError, match="knows no service"):
            services.start(name)
    assert services.all_running() == set()


def test_pm2_stops_a_service_called_all_and_no_other(pm2: Pm2) -> None:
    pm2("start", "service.js", "--name", "all", "--", "web")
    number = str(pm2.entry("all")["pm_id"])
    services = by_pm2(pm2)
    try:
        services.start("web")
        services.stop("all")
        assert services.all_running() == {"web"}
    finally:
        pm2("delete", number)
        pm2.clear()


def test_pm2_starts_with_its_own_environment_not_the_operators(pm2: Pm2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_OPERATOR", "hello")
    services = by_pm2(pm2)
    services.start("web")
    try:
        environment = Path(f"/proc/{pm2.pids('web')[0]}/environ").read_text()
        assert ("SECRET_OF_SERVICE" in environment, "OF_THE_OPERATOR" in environment) == (True, False)
    finally:
        services.stop("web")


@pytest.mark.parametrize("output", ["as it is", "cut", "another shape", "a failure"])
def test_pm2_lets_no_secret_of_an_environment_out(pm2: Pm2, output: str, caplog: pytest.LogCaptureFixture) -> None:
    listed = pm2("jlist").splitlines()[-1]
    assert CANARY in listed
    shapes = {
        "as it is": (0, listed, listed),
        "cut": (0, listed[:-5], ""),
        "another shape": (0, json.dumps([{"name": CANARY, "pm2_env": {"env": CANARY}}]), CANARY),
        "a failure": (1, listed, listed),
    }
    services = by_pm2(pm2, ScriptedProcesses(lambda command: shapes[output] if command[-1] == "jlist" else (1, "", CANARY)))
    said = [caplog.text]
    for ask in ("is_running", "stop", "start", "version", "all_running"):
        try:
            said.append(repr(getattr(services, ask)(*(["web"] if ask != "all_running" else []))))
        except AdapterError as error:
            said.append("".join(traceback.format_exception(error)))
    assert len(said) == 6
    assert CANARY not in "".join(said) + repr(vars(services))
