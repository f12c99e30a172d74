"""What a wheel of the project holds, and which folder an installed package works in."""

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from runbook_lib.config.installed import require_extra
from runbook_lib.config.loading import PROJECT, project
from runbook_lib.errors import PreconditionError
from runbook_lib.rehearsal.workspace import PLAN, TARGET

from ..support import places
from ..support.places import ROOT
from ..support.wheel import built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


def files(*arguments: str) -> set[str]:
    """The regular files that git lists."""
    listed = subprocess.run(["git", "ls-files", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.splitlines() if (ROOT / name).is_file()}


def test_a_wheel_holds_package_notebooks_and_sample_and_no_more(wheel: Path) -> None:
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    notebooks = {f"runbook_lib/headless/{name}" for name in files("notebooks/*.ipynb")}
    parameters = {f"runbook_lib/rehearsal/{name}" for name in files("parameters")}
    templates = {f"runbook_lib/init/{name}" for name in files("templates")}

    assert len(notebooks) >= 9
    assert len(templates) == 2
    assert {"feat-2025-20251103111429.yaml", "rehearsal.yaml"} <= {Path(name).name for name in parameters}
    assert names == files("--cached", "--others", "--exclude-standard", "runbook_lib") | notebooks | parameters | templates
    assert "runbook_lib/py.typed" in names


def test_the_sample_of_the_package_is_that_of_the_repository() -> None:
    assert (PLAN.resolve(), TARGET.resolve()) == (places.PLAN, places.TARGET)


def test_the_project_is_the_checkout_or_the_current_directory(tmp_path: Path) -> None:
    checkout, site, here = (tmp_path / name for name in ("checkout", "site-packages", "here"))
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()

    assert project(checkout / "runbook_lib", {}, here) == checkout
    assert project(site / "runbook_lib", {}, here) == here
    assert project(site / "runbook_lib", {PROJECT: str(tmp_path)}, here) == tmp_path


def test_an_extra_that_is_not_installed_is_named_with_the_command_for_it() -> None:
    require_extra("rehearsal")
    with pytest.raises(PreconditionError) as raised:
        require_extra("lab")  # JupyterLab has an environment of its own

    assert "the extra `lab`, of which" in raised.value.what
    assert "jupyterlab" in raised.value.what
    assert 'pip install "runbook-lib[lab]"' in raised.value.safe_next
