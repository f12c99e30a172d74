"""What works in parts is steered from another process while it does, and only then."""

import os
import signal
from pathlib import Path

import pytest

from runbook_lib.parts import Parts, Wanted


def test_where_no_part_is_under_way_there_is_nothing_to_steer(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "copy")

    assert not parts.want("pause")
    with parts.under_way():
        pass
    assert not parts.want("pause")


@pytest.mark.parametrize("wanted", ["pause", "abort", "go on"])
def test_what_another_process_wants_is_heard(tmp_path: Path, wanted: Wanted) -> None:
    with Parts(tmp_path, "copy").under_way():
        child = os.fork()
        if child == 0:
            os._exit(0 if Parts(tmp_path, "copy").want(wanted) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert Parts(tmp_path, "copy").wanted() == wanted


def test_what_cannot_be_read_means_pause(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "copy")
    with parts.under_way():
        (tmp_path / ".parts-copy.wanted").write_text("proceed")
        assert parts.wanted() == "pause"


def test_what_was_wanted_of_a_process_that_was_killed_counts_no_more(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with Parts(tmp_path, "copy").under_way():
            Parts(tmp_path, "copy").want("abort")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    parts = Parts(tmp_path, "copy")

    assert not parts.want("pause")
    with parts.under_way():
        assert parts.wanted() == "go on"
