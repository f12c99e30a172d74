"""The example for systemd on the page on managers, driven by the manager `commands` against a stand-in for systemd."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from runbook_lib.errors import AdapterError
from runbook_lib.services import Services, connect
from runbook_lib.services.commands import CommandsTarget
from runbook_lib.system.processes import LocalProcesses

from ..support.places import ROOT

# What is asked of it in another form than systemctl(1) has it is refused. A unit's state is in a file.
SYSTEMCTL = r"""#!/bin/sh
cd "$(dirname "$0")"
[ -e away ] && { echo "Failed to connect to bus" >&2; exit 1; }
state() { cat "units/$1" 2>/dev/null || echo inactive; }
case "$*" in
  "is-active shop-"*.service) state "$2"; [ "$(state "$2")" = active ] || exit 3 ;;
  "stop shop-"*.service) echo inactive > "units/$2" ;;
  "start shop-"*.service) echo active > "units/$2" ;;
  "show --property=LoadState --value shop-"*.service) [ -e "units/$4" ] && echo loaded || echo not-found ;;
  "show --property=MainPID --value shop-"*.service) echo 4711 ;;
  "list-units shop-*.service --state=active,activating,reloading,deactivating --plain --no-legend --full")
    for unit in units/*; do
      case $(cat "$unit") in inactive|failed) ;; *) echo "${unit#units/} loaded active running a service" ;; esac
    done ;;
  *) echo "no such form: $*" >&2; exit 64 ;;
esac
"""
JOURNALCTL = r"""#!/bin/sh
[ "$1 $3 $5 $6 $7 $#" = "--unit --since --output=cat --no-pager --quiet 7" ] || exit 64
case $4 in @*[!0-9.]*|[!@]*) echo "Failed to parse timestamp: $4" >&2; exit 1 ;; esac
echo "$2 since $4"
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "units").mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name, state in (("backend", "active"), ("worker", "activating"), ("frontend", "inactive")):
        (tmp_path / "units" / f"shop-{name}.service").write_text(f"{state}\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def services() -> Services:
    page = (ROOT / "docs" / "managers.md").read_text()
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "systemctl, start" in b and "manager" in b)
    described = yaml.safe_load(block.replace("  …\n", ""))["services"]
    return connect(CommandsTarget(**described, timeout=2, versions={}, built_from={}), LocalProcesses())


def test_the_example_reports_what_runs(systemd: Path, services: Services) -> None:
    assert services.all_running() == {"backend", "worker"}
    assert [services.is_running(name) for name in ("backend", "worker", "frontend")] == [True, True, False]


def test_the_example_stops_and_starts_units(systemd: Path, services: Services) -> None:
    services.stop("backend")
    services.start("frontend")

    assert services.all_running() == {"worker", "frontend"}
    assert services.up(["backend", "frontend"]) == {"frontend"}


def test_the_example_gives_the_journal_a_moment_that_systemd_reads(systemd: Path, services: Services) -> None:
    moment = datetime(2026, 11, 3, 11, 14, 29, 250000, tzinfo=UTC)

    assert services.logs("backend", moment) == ["shop-backend.service since @1793704469.250"]


def test_a_unit_or_a_systemd_that_is_not_there_is_unknown(systemd: Path, services: Services) -> None:
    with pytest.raises(AdapterError, match="did not answer about mailer"):
        services.is_running("mailer")
    (systemd / "away").touch()
    with pytest.raises(AdapterError, match="did not answer about backend"):
        services.is_running("backend")
    with pytest.raises(AdapterError, match="did not answer what it runs"):
        services.all_running()


def test_a_unit_in_an_unknown_state_is_not_taken_for_stopped(systemd: Path, services: Services) -> None:
    (systemd / "units" / "shop-backend.service").write_text("maintenance\n")

    with pytest.raises(AdapterError, match="did not answer"):
        services.is_running("backend")
