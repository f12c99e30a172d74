"""What works in parts is steered from another process while it does, and only then."""

import os
import signal
from pathlib import Path
from threading import Thread

import pytest

from runbook_lib.journal.control import ControlFile, Request


def test_where_no_part_is_under_way_there_is_nothing_to_steer(tmp_path: Path) -> None:
    channel = ControlFile(tmp_path, "copy")

    assert not channel.request("pause")
    with channel.opened():
        pass
    assert not channel.request("pause")


@pytest.mark.parametrize("wanted", ["pause", "abort", "resume"])
def test_what_another_process_wants_is_heard(tmp_path: Path, wanted: Request) -> None:
    with ControlFile(tmp_path, "copy").opened():
        child = os.fork()
        if child == 0:
            os._exit(0 if ControlFile(tmp_path, "copy").request(wanted) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert ControlFile(tmp_path, "copy").requested() == wanted


def test_what_cannot_be_read_means_pause(tmp_path: Path) -> None:
    channel = ControlFile(tmp_path, "copy")
    with channel.opened():
        (tmp_path / ".parts-copy.wanted").write_text("proceed")
        assert channel.requested() == "pause"


def test_a_request_to_a_process_that_was_killed_no_longer_counts(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with ControlFile(tmp_path, "copy").opened():
            ControlFile(tmp_path, "copy").request("abort")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    channel = ControlFile(tmp_path, "copy")

    assert not channel.request("pause")
    with channel.opened():
        assert channel.requested() == "resume"


def test_a_request_that_was_taken_as_the_work_began_is_not_lost(tmp_path: Path) -> None:
    for turn in range(200):
        channel = ControlFile(tmp_path, f"copy-{turn}")

        def keep_asking(channel: ControlFile = channel) -> None:
            while not channel.request("pause"):
                pass

        asking = Thread(target=keep_asking)
        asking.start()
        with channel.opened():
            asking.join()
            assert channel.requested() == "pause"


def test_a_request_before_the_work_begins_counts_once_it_has_begun(tmp_path: Path) -> None:
    channel = ControlFile(tmp_path, "copy")

    with channel.opened(leaves=True):
        assert channel.request("pause")
    with channel.opened(keeps=True):
        assert channel.requested() == "pause"
    with channel.opened():
        assert channel.requested() == "resume"
