"""A sample of the corpus on the older PostgreSQL; `make corpus` rolls every case back on the newest."""

from collections.abc import Callable

import pytest

from runbook_lib.rehearsal.postgres import Server

from ..corpus.judge import RIGHT, RIGHTLY_REFUSED, judged
from .conftest import OLDER

SAMPLE = ["14", "17", "19", "22", "37", "41", "45", "48", "54", "61", "64"]


@pytest.mark.older
@pytest.mark.parametrize("case", SAMPLE)
def test_a_case_is_taken_back_or_refused_on_the_older_server(servers: Callable[[int], Server], case: str) -> None:
    found = judged(servers(OLDER), case)

    assert found.verdict in (RIGHT, RIGHTLY_REFUSED), found.lines
