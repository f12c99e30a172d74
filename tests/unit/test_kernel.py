"""The kernel of a run without a person, before it has its orders."""

import subprocess
import sys

import pytest

from runbook_lib.headless.kernel import AHEAD


@pytest.mark.parametrize("options", [[], [AHEAD]])
def test_a_kernel_that_gets_no_orders_ends(options: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "runbook_lib.headless.kernel", *options]

    assert subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
