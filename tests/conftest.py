"""What holds for every test."""

import gc
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

pytest.register_assert_rewrite("tests.support")

MEMORY = Path("/dev/shm")  # Linux keeps its files in memory
ROOM = 2 * 1024**3  # bytes; a run of all the tests has less than half of it in use at once
SERVER = re.compile(r"pg\d+")  # one that the tests of a file share, and others of it do not
MANAGER = re.compile(r"docker|pm2")  # one that the tests of a folder share
GARBAGE = 50_000  # objects before a look for garbage


class Portions(LoadFileScheduling):
    """Gives a process the tests of one file, or of these the ones that share a server; in the order of collection.

    Those in JupyterLab fill both cores by themselves, so all of them go to one process, one after another.

    The few that take long are collected first (acceptance, browser, contract), the many short ones last (unit): so the
    processes end at about the same time.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        folder = file.rpartition("/")[0]
        if folder.endswith("browser"):
            return folder
        if manager := MANAGER.search(test):
            return f"{folder} {manager[0]}"
        server = SERVER.search(test)
        return f"{file} {server[0] if server else ''}"


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the tests write in memory where there is room for it and nothing else was asked for."""
    if "TMPDIR" not in os.environ and _has_room(MEMORY):
        os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="rt-", dir=MEMORY)
        config.add_cleanup(lambda made=tempfile.tempdir: shutil.rmtree(made, ignore_errors=True))
    gc.set_threshold(GARBAGE)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no test computes with matrices, and idle threads wait by spinning


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out on the older versions what they cannot change."""
    apart = [item for item in items if item.get_closest_marker("newest") and item.get_closest_marker("older")]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in set(apart)]


def pytest_collection_finish() -> None:
    """Exempt what was loaded so far from the search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def copied_stacks() -> Iterator[None]:
    """Stacks start from copies of a cluster and of repositories that are made once, a third of their work."""
    from .support.made_once import made_once

    with made_once():
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Portions | None:
    """Spread the tests by portions where they were to be spread by files."""
    return Portions(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: CI can provide all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        reporter.write_line(f"{len(reporter.stats['skipped'])} tests were skipped, which fails in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the PostgreSQL versions that the tests ran on, and the seconds that each group of tests took."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    versions = sorted({number for name in passed for number in re.findall(r"\[pg(\d+)", name)})
    for version in versions:
        count = sum(f"[pg{version}" in name for name in passed)
        terminalreporter.write_line(f"PostgreSQL {version}: {count} tests passed")
    seconds: Counter[str] = Counter()
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[next((group for group in ("slow", "older") if group in report.keywords), "other")] += report.duration
    for group, total in sorted(seconds.items()):
        terminalreporter.write_line(f"{total:.0f} s  {group} tests, all processes together")


def _has_room(place: Path) -> bool:
    """Whether files can be written and run there, and enough of them."""
    return os.access(place, os.W_OK) and not os.statvfs(place).f_flag & os.ST_NOEXEC and shutil.disk_usage(place).free > ROOM
