"""What holds for pm2 alone."""

import gzip
import json
import os
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
from runbook_lib.services import Restart, Services
from runbook_lib.system.processes import ScriptedProcesses

from ..support.managers import by_pm2, start_and_hear
from ..support.pm2 import CANARY, Pm2, a_daemon, answered
from ..support.waiting import until


def test_pm2_refuses_a_process_started_by_the_clock_even_when_stopped(pm2: Pm2) -> None:
    pm2("start", "service.js", "--name", "by-the-clock", "--cron-restart", "0 3 * * *", "--", "web")
    pm2("stop", "by-the-clock")
    services = by_pm2(pm2)
    try:
        status, why = found(services, Restart(["by-the-clock"], stopped_first=True), "watch")
        assert (status, "restart by-the-clock --cron-restart 0`" in why) == (Status.FAIL, True)
        assert services.all_running() == {"by-the-clock"}
        with pytest.raises(AdapterError, match="cron_restart"):
            services.stop("by-the-clock")
        pm2("restart", "by-the-clock", "--cron-restart", "0")
        assert found(services, Restart(["by-the-clock"], stopped_first=True), "watch")[0] is Status.PASS
        services.stop("by-the-clock")
        assert services.all_running() == set()
    finally:
        pm2("delete", "by-the-clock")


def test_pm2_reads_rotated_logs_compressed_ones_too(pm2: Pm2) -> None:
    services, log = by_pm2(pm2), pm2.home / "logs" / "web-out.log"
    start_and_hear(services, "web")
    services.stop("web")
    rotated = log.with_name("web-out__2026-12-01_00-00-00.log.gz"), log.with_name("web-out.log.1")
    try:
        rotated[0].write_bytes(gzip.compress(b"long ago\n"))
        os.utime(rotated[0], (0, 0))
        log.rename(rotated[1])  # as logrotate does
        log.touch()
        assert services.logs("web", None)[0] == "long ago"
        assert any("web started" in line for line in services.logs("web", None))
    finally:
        rotated[0].unlink()
        rotated[1].rename(log)


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


@pytest.fixture
def home() -> Iterator[Path]:
    """A PM2_HOME with a path that is short enough for a socket."""
    with TemporaryDirectory(prefix="rp-") as made:
        yield Path(made)


@pytest.mark.parametrize("output", ["as it is", "cut", "another shape", "a failure", "nothing"])
def test_pm2_lets_no_secret_of_an_environment_out(
    pm2: Pm2, home: Path, output: str, caplog: pytest.LogCaptureFixture
) -> None:
    listed = json.loads(pm2("jlist").splitlines()[-1])
    assert CANARY in repr(listed)
    whole = answered(listed)
    answers = {
        "as it is": whole,
        "cut": whole[:-50],
        "another shape": answered([{"name": CANARY, "pm2_env": {"env": CANARY}}]),
        "a failure": whole.replace(b'"args"', b'"error"', 1),
        "nothing": b"",
    }
    said = [caplog.text]
    with a_daemon(home, lambda: answers[output]):
        services = by_pm2(pm2, ScriptedProcesses(lambda command: (1, "", CANARY)), home)
        for ask in ("is_running", "stop", "start", "version", "all_running"):
            try:
                said.append(repr(getattr(services, ask)(*(["web"] if ask != "all_running" else []))))
            except AdapterError as error:
                said.append("".join(traceback.format_exception(error)))
    assert len(said) == 6
    assert CANARY not in "".join(said) + repr(vars(services))


UNTIMED = "console.error(`TypeError: ${process.argv[2]} of start ${process.pid}`); setInterval(() => {}, 1000);"


@pytest.fixture(scope="module")
def in_the_field(pm2: Pm2) -> Iterator[Pm2]:
    """Services as they are found: watched, several instances, logs without times, and started from a release's own path."""
    site = pm2.root / "site"
    for release in ("1", "2"):
        (site / "releases" / release).mkdir(parents=True)
        (site / "releases" / release / "app.js").write_text(UNTIMED)
    (site / "src").mkdir()
    (site / "app.js").write_text(UNTIMED)
    (site / "current").symlink_to("releases/2")
    older = site / "releases" / "1"
    apps = [
        {"name": "watched", "cwd": str(site), "script": "app.js", "watch": True, "watch_delay": 200},
        {"name": "listed", "cwd": str(site), "script": "app.js", "watch": ["src"]},
        {"name": "cluster", "cwd": str(site), "script": "app.js", "instances": 3, "exec_mode": "cluster"},
        {"name": "older", "cwd": str(older), "script": str(older / "app.js")},
    ]
    (pm2.root / "field.json").write_text(json.dumps({"apps": apps}))
    pm2("start", "field.json")
    pm2("save")
    try:
        yield pm2
    finally:
        pm2("delete", *(app["name"] for app in apps))  # type: ignore[misc]


def found(services: Services, restart: Restart, suffix: str) -> Found:
    return next(look.find() for look in services.looks(restart) if look.suffix == suffix)


def entries(pm2: Pm2, name: str) -> list[dict[str, object]]:
    listed = json.loads(pm2("jlist").splitlines()[-1])
    return [entry["pm2_env"] for entry in listed if entry["name"] == name]


def test_pm2_names_watch_mode_beforehand_and_has_it_off_until_the_start(in_the_field: Pm2) -> None:
    services, dump = by_pm2(in_the_field), in_the_field.home / "dump.pm2"
    saved = dump.read_bytes()
    while_it_runs = found(services, Restart(["watched"]), "watch")
    stopped_first = found(services, Restart(["watched"], stopped_first=True), "watch")
    restore = services.to_restore(["watched", "cluster"])

    (in_the_field.root / "site" / "changed").write_text("")  # pm2 is about to restart it
    services.stop("watched")
    (in_the_field.root / "site" / "changed").write_text("by the revert")
    off = entries(in_the_field, "watched")[0]
    services.start("watched", restore=json.loads(json.dumps(restore)))

    assert (while_it_runs[0], "restart watched --watch`" in while_it_runs[1]) == (Status.FAIL, True)
    assert (stopped_first[0], "watched" in stopped_first[1]) == (Status.PASS, True)
    assert restore == {"watched": {"watch mode": "on"}}
    assert (off["status"], off["watch"]) == ("stopped", False)
    assert entries(in_the_field, "watched")[0]["watch"] is True
    assert dump.read_bytes() == saved


def test_pm2_stops_once_more_what_watch_mode_started_during_the_stop(pm2: Pm2, home: Path) -> None:
    [entry] = [entry for entry in json.loads(pm2("jlist").splitlines()[-1]) if entry["name"] == "web"]
    states, stops = ["online", "online", "stopped"], []

    def stop(command: tuple[str, ...]) -> tuple[int, str, str]:
        stops.append(command)
        states.pop(0)
        return 0, "", ""

    def listed() -> bytes:
        return answered([entry | {"pid": 0, "pm2_env": entry["pm2_env"] | {"status": states[0]}}])

    with a_daemon(home, listed):
        by_pm2(pm2, ScriptedProcesses(stop), home).stop("web")
    assert len(stops) == 2


def test_pm2_refuses_a_watched_list_of_folders_beforehand(in_the_field: Pm2) -> None:
    services = by_pm2(in_the_field)

    status, why = found(services, Restart(["watched", "listed"], stopped_first=True), "watch")

    assert (status, "pm2 watches src for listed" in why) == (Status.FAIL, True)
    assert services.to_restore(["listed"]) == {}


def test_pm2_keeps_the_instances_and_starts_the_one_that_is_missing(in_the_field: Pm2) -> None:
    services = by_pm2(in_the_field)
    services.stop("cluster")
    services.start("cluster")
    assert [entry["status"] for entry in entries(in_the_field, "cluster")] == ["online"] * 3

    in_the_field("stop", str(entries(in_the_field, "cluster")[1]["pm_id"]))
    assert services.up(["cluster"]) == set()
    services.start("cluster")
    assert services.up(["cluster"]) == {"cluster"}


def test_pm2_lines_without_a_time_count_from_the_mark_or_are_unknown(in_the_field: Pm2) -> None:
    services, moment = by_pm2(in_the_field), datetime.now(UTC)
    until(lambda: services.logs("older", None), "it has logged its first start")
    services.stop("older")
    mark = json.loads(json.dumps(services.log_marks(["older"])))
    services.start("older")
    until(lambda: len(services.logs("older", None)) == 2, "it logs")

    with pytest.raises(AdapterError, match="carry no time") as refused:
        services.logs("older", moment)

    assert "restart older --time" in refused.value.safe_next
    assert services.logs("older", moment, mark["older"]) == services.logs("older", None)[1:]


def test_pm2_names_a_release_that_the_link_has_left_behind(in_the_field: Pm2) -> None:
    services, site = by_pm2(in_the_field), in_the_field.root / "site"

    status, why = found(services, Restart(["older"], {"older": site / "current"}), "paths")
    inside = found(services, Restart(["older"], {"older": site / "releases" / "1"}), "paths")

    assert (status, f"start {site}/current/app.js --name older --cwd {site}/current`" in why) == (Status.FAIL, True), why
    assert inside[0] is Status.PASS


def test_pm2_cannot_distinguish_two_releases_with_the_same_version(pm2: Pm2) -> None:
    services = by_pm2(pm2, pinned={"web": "1.0.0"})
    pm2.deploy("1")
    services.start("web")
    try:
        same = found(services, Restart(["web"]), "releases")
        pm2.deploy("2")
        services.stop("web")
        services.start("web")
        other = found(services, Restart(["web"]), "releases")
    finally:
        services.stop("web")
    assert (same[0], "web reports 1.0.0" in same[1], other[0]) == (Status.UNKNOWN, True, Status.PASS)
