"""Lines of rotated log files since a mark."""

import gzip
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runbook_lib.services import log_files

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def renamed(log: Path) -> None:
    log.rename(log.with_name("app.log.1"))


def copied(log: Path) -> None:
    shutil.copy(log, log.with_name("app.log.1"))
    os.truncate(log, 0)


def compressed(log: Path) -> None:
    copied(log)
    copy = log.with_name("app.log.1")
    with gzip.open(log.with_name("app.log.1.gz"), "wb") as opened:
        opened.write(copy.read_bytes())
    copy.unlink()


def emptied(log: Path) -> None:
    os.truncate(log, 0)


def files(log: Path) -> list[Path]:
    return [*sorted(log.parent.glob("app.log.?*"), reverse=True), log]


@pytest.mark.parametrize(
    ("rotate", "expected"),
    [
        (lambda log: None, ["middle", "new"]),
        (renamed, ["middle", "new"]),
        (copied, ["middle", "new"]),
        (compressed, ["middle", "new"]),
        (emptied, ["new"]),
    ],
    ids=["not rotated", "by another name", "by a copy", "by a compressed copy", "emptied by hand"],
)
def test_lines_without_a_time_are_those_after_the_mark(
    tmp_path: Path, rotate: Callable[[Path], None], expected: list[str]
) -> None:
    log = tmp_path / "app.log"
    (tmp_path / "app.log.2").write_text("oldest\n")
    log.write_text("TypeError: an old one\n")
    mark = log_files.mark([files(log)])
    with log.open("a") as opened:
        opened.write("middle\n")
    rotate(log)
    with log.open("a") as opened:
        opened.write("new\n")

    assert log_files.lines([files(log)], LONG_AGO, mark) == expected


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes('{"msg":"a\u2028b\x0c"}\r\n50 %\r99 %\n\nx'.encode())

    assert log_files.lines([[log]], None, {}) == ['{"msg":"a\u2028b\x0c"}', "50 %\r99 %", "", "x"]


def test_lines_without_time_and_mark_are_unknown_unless_the_file_is_older(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("TypeError: an old one\n")
    with pytest.raises(log_files.UnplacedError, match=r"app\.log"):
        log_files.lines([files(log)], LONG_AGO, {})

    os.utime(log, (0, 0))
    assert log_files.lines([files(log)], LONG_AGO, {}) == []


def test_a_log_that_was_not_there_at_the_mark_counts_in_full(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    mark = log_files.mark([files(log)])
    log.write_text("first\n")

    assert log_files.lines([files(log)], LONG_AGO, mark) == ["first"]
