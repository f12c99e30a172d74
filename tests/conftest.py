"""What holds for every test."""

import os
import re

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: CI can provide all that the tests need."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        reporter.write_line(f"{len(reporter.stats['skipped'])} tests were skipped, which fails in CI", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say on which versions of PostgreSQL the tests ran."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    versions = sorted({number for name in passed for number in re.findall(r"\[pg(\d+)", name)})
    for version in versions:
        count = sum(f"[pg{version}" in name for name in passed)
        terminalreporter.write_line(f"PostgreSQL {version}: {count} tests passed")
