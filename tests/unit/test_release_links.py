"""What a manager starts that remembers the paths of a release."""

from pathlib import Path

import pytest

from runbook_lib.results import Status
from runbook_lib.services.release_links import starts_from


@pytest.fixture
def site(tmp_path: Path) -> Path:
    tmp_path /= "srv/of/the/company"
    for release in ("1", "2"):
        (tmp_path / "shop" / "releases" / release / "dist").mkdir(parents=True)
        (tmp_path / "shop" / "releases" / release / "dist" / "main.js").write_text("")
    (tmp_path / "shop" / "current").symlink_to("releases/2")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "npm.js").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("script", "cwd", "checkout", "status", "said"),
    [
        ("shop/releases/2/dist/main.js", "shop/releases/2", "shop/current", Status.PASS, "starts from"),
        ("shop/current/dist/main.js", "shop/current", "elsewhere", Status.PASS, "through a link"),
        ("elsewhere/npm.js", "shop/current", "shop/current", Status.PASS, "starts from"),
        ("shop/releases/1/dist/main.js", "shop/releases/1", "shop/current", Status.FAIL, "current/dist/main.js"),
        ("shop/releases/2/dist/main.js", "shop/releases/2", None, Status.FAIL, "a restart does not follow it"),
        ("elsewhere/npm.js", "shop/releases/1", "shop/current", Status.FAIL, "--cwd"),
        ("elsewhere/npm.js", "elsewhere", "shop/releases/2", Status.UNKNOWN, "outside"),
        ("elsewhere/npm.js", "elsewhere", None, Status.PASS, "not built here"),
        ("shop/releases/0/main.js", "shop/releases/0", "shop/current", Status.FAIL, "which is gone"),
    ],
)
def test_what_a_remembered_path_starts(
    site: Path, script: str, cwd: str, checkout: str | None, status: Status, said: str
) -> None:
    found = starts_from("api", site / script, site / cwd, site / checkout if checkout else None, "pm2")

    assert (found[0], said in found[1]) == (status, True), found
