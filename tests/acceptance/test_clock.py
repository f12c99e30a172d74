"""The clock is set back between two tries of a run: nothing that is reported is negative, and the true time is known."""

import os
import re
import signal
from pathlib import Path

import psycopg

from ..support.command_line import ended, planned, processes
from ..support.stacks import up
from ..support.waiting import until

# What Python loads before anything else: a clock that was set back by three hours. Compiled modules need the true class.
SET_BACK = """
import datetime, pandas, time
real, shift = time.time, 3 * 3600
time.time = lambda: real() - shift
class SetBack(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - datetime.timedelta(seconds=shift)
datetime.datetime = SetBack
"""
NEGATIVE = re.compile(r"(?<![\w.:-])[-\u2212]\d+(\.\d+)? ?(s|min|h)\b")


def test_no_time_is_negative_where_the_clock_was_set_back_between_tries(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SET_BACK)
    with up("none") as stack, planned(stack, tmp_path) as plan:
        with psycopg.connect(stack.database.conninfo(stack.database.application)) as connection:
            connection.execute("CREATE TABLE held ()")
            connection.commit()
            connection.execute("LOCK TABLE held")
            first = plan.start()
            until(lambda: processes("--format=custom", plan.folder.name), "pg_dump runs")
            os.kill(first.pid, signal.SIGKILL)
            first.communicate(timeout=60)
            connection.rollback()

        last = ended(plan.start(PYTHONPATH=str(tmp_path)))

        assert (last.returncode, "VERIFIED" in last.stdout) == (0, True), last.stdout + last.stderr
        (changed,) = plan.events("clock-changed")
        assert -10_810 < changed["seconds"] < -10_790
        status = ended(plan.started("status", str(plan.folder))).stdout
        pages = {
            name: (plan.folder / name).read_text() for name in ("report.html", "rollback-log.md", "06-restore-a-part.ipynb")
        }
        for name, text in {"status": status, **pages}.items():
            assert not NEGATIVE.search(re.sub('<[^>]+>|base64,[^"]+', " ", text)), name
        took = re.search(r"From first step to verdict</dt><dd>([^<]+)", pages["report.html"])
        assert took and re.fullmatch(r"[\d.]+ s, within the plan&#39;s 5 min|[\d.]+ s, within the plan's 5 min", took[1])
