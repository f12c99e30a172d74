"""A plan whose steps have names of its own, and whose type names no notebook: its notebook is rendered as it runs."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from ..support import quick_site


@pytest.mark.slow
def test_a_plan_with_steps_of_its_own_needs_no_notebook(tmp_path: Path) -> None:
    site = quick_site.make(tmp_path / "site")
    plan = yaml.safe_load(site.plan_file.read_text())
    kind = plan["types"]["frontend"]
    plan["steps"] |= {f"our-{name}": plan["steps"][name] for name in kind["steps"]}
    kind["steps"] = [f"our-{name}" for name in kind["steps"]]
    del kind["notebook"]
    site.plan_file.write_text(yaml.safe_dump(plan, sort_keys=False))

    run = site.plan()
    code, said = run.run()

    assert (code, run.state.outcome and run.state.outcome["status"]) == (0, "verified"), said
    assert [name for name, step in run.state.steps.items() if step.is_done] == kind["steps"]
    executed = nbformat.read(run.folder / "frontend.ipynb", as_version=4)
    applied = [found[1] for cell in executed.cells if (found := re.match(r'await apply\(run, "(.*)"\)', cell.source))]
    assert applied == kind["steps"]
