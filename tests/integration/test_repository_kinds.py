"""Repositories with submodules, files behind filters, or several services: handled, or refused by name by `runbook plan`."""

import os
import shutil
from pathlib import Path

import pytest

from runbook_lib.documents import resolved
from runbook_lib.errors import ParametersError
from runbook_lib.run.lifecycle import open_new

from ..support import quick_site
from ..support.quick_site import PLAN, Planned, Site, git

FEATURE = resolved(PLAN)["feature"]
BUILT = "repositories__frontend__build"
ROT13 = "tr A-Za-z N-ZA-Mn-za-m"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return quick_site.make(tmp_path / "site")


def committed(site: Site, message: str, **files: str) -> str:
    for name, text in files.items():
        path = site.frontend / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    site.git("add", ".")
    site.git("commit", "--quiet", f"--message={message}")
    site.git("push", "--quiet")
    return site.git("rev-parse", "HEAD")


def refusal(planned: Planned) -> str:
    said = str(planned.said.get("error", planned.error))
    assert (planned.said.get("digest") is None or "cannot be approved" in said, planned.site.frozen) == (True, False), said
    return said


# --- submodules


@pytest.fixture
def library(site: Site) -> Path:
    """A repository that the frontend has as its submodule vendor/library, with two commits."""
    path = site.root / "library"
    git(site.root, "init", "--quiet", "--initial-branch=main", "library")
    for version in ("one", "two"):
        (path / "version.txt").write_text(version)
        git(path, "add", ".")
        git(path, "commit", "--quiet", f"--message={version}")
    site.git("submodule", "--quiet", "add", str(path), "vendor/library")
    site.git("checkout", "--quiet", "HEAD~1", path=site.frontend / "vendor" / "library")
    committed(site, "The library, version one")
    return path


@pytest.mark.slow
def test_the_old_version_is_built_with_the_submodules_that_it_has(site: Site, library: Path) -> None:
    site.change_target(**{BUILT: ["sh", "-c", f"grep -q one vendor/library/version.txt && {quick_site.BUILD}"]})
    ann = site.plan()

    code, said = ann.run()

    assert (code, (site.frontend / "vendor" / "library" / "version.txt").read_text()) == (0, "one"), (ann.error, said)


def test_a_feature_that_moves_a_submodule_is_refused_by_its_name(site: Site, library: Path) -> None:
    one = site.git("rev-parse", "HEAD", path=site.frontend / "vendor" / "library")
    site.git("checkout", "--quiet", "main", path=site.frontend / "vendor" / "library")
    committed(site, f"The library, version two\n\n{FEATURE}")

    said = refusal(site.plan())

    two = site.git("rev-parse", "HEAD", path=library)
    assert f"moves submodules: vendor/library from {two[:12]} to {one[:12]}" in said


# --- files behind filters


def test_files_of_git_lfs_are_refused_where_it_is_not_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = site.root / "programs"
    programs.mkdir()
    for name in ("git", "sh", "ls", "test", "cat", "sed", "rm", "touch"):
        (programs / name).symlink_to(str(shutil.which(name)))
    committed(
        site, "A picture", **{".gitattributes": "*.psd filter=lfs diff=lfs\n", "picture.psd": "version https://git-lfs\n"}
    )
    site.environment["PATH"] = str(programs)

    said = refusal(site.plan())

    assert "picture.psd are kept with Git LFS, which is not installed here" in said


@pytest.mark.slow
@pytest.mark.parametrize("unlocked", [True, False], ids=["its settings are the checkout's own", "its settings are nowhere"])
def test_a_file_behind_a_filter_is_built_as_it_is_deployed_or_refused(site: Site, unlocked: bool) -> None:
    site.git("config", "filter.secret.clean", ROT13)
    site.git("config", "filter.secret.smudge", ROT13)
    committed(site, "A file that is encrypted in git", **{".gitattributes": "*.key filter=secret\n", "a.key": "Frperg\n"})
    assert site.git("show", "HEAD:a.key") == "Secret"
    site.change_target(**{BUILT: ["sh", "-c", f"grep -q Frperg a.key && {quick_site.BUILD}"]})
    if not unlocked:
        site.git("config", "--remove-section", "filter.secret")
        site.git("update-index", "--assume-unchanged", "a.key")

    planned = site.plan()

    if unlocked:
        assert planned.run()[0] == 0, planned.error
    else:
        assert "does not get the content of a.key: a filter (secret) keeps that outside git" in refusal(planned)


# --- several services in one repository


@pytest.fixture
def shared(site: Site) -> Site:
    """A repository from which the backend is built too, and which the feature changed in both."""
    site.change_target(services__built_from={"backend": "frontend", "frontend": "frontend", "worker": "backend"})
    committed(site, f"Serve it\n\n{FEATURE}", **{"api/serve.py": "serve()\n"})
    return site


def test_a_service_that_would_be_left_on_changed_files_is_named(shared: Site) -> None:
    said = refusal(shared.plan())

    assert "from which backend is built, and neither stops nor starts them" in said


def test_the_plans_paths_name_the_file_of_another_services_build(shared: Site) -> None:
    shared.change_plan(repositories__frontend={"paths": {"backend": ["api"], "frontend": ["src"]}})

    assert "it changes api/serve.py, from which backend is built" in refusal(shared.plan())


def test_a_feature_that_keeps_to_the_paths_of_its_service_is_rolled_back(site: Site) -> None:
    site.change_target(services__built_from={"backend": "frontend", "frontend": "frontend", "worker": "backend"})
    site.change_plan(repositories__frontend={"paths": {"backend": ["api"], "frontend": ["src"]}})

    planned = site.plan()

    assert planned.said["digest"], planned.error


def test_one_checkout_for_two_repositories_is_refused_before_a_run_is_made(site: Site) -> None:
    site.change_target(repositories__backend__path="${REHEARSAL_ROOT}/frontend/")

    with pytest.raises(ParametersError, match="names one checkout for two repositories of the plan, backend and frontend"):
        _opened(site)

    assert list((site.root / "outputs").iterdir()) == []


def _opened(site: Site) -> None:
    before = dict(os.environ)
    os.environ.update(site.environment)
    try:
        open_new(site.plan_file, site.target_file, "frontend", outputs=site.root / "outputs")
    finally:
        os.environ.clear()
        os.environ.update(before)
