"""The image of the old version is built from the scratch clone before anything is touched, or the preview says why not."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.context import builds, images
from runbook_lib.context.adapters import Adapters
from runbook_lib.errors import AdapterError
from runbook_lib.results import Status
from runbook_lib.services import MemoryServices

from ...support.code_steps import BUILD, REVERT, Run

SERVICE, START = "frontend", "restart-frontend"


class MemoryImages:
    """Images by tag, each with what it holds: the files of the folder that it was built from."""

    def __init__(self) -> None:
        self.holds: dict[str, list[str]] = {}
        self.labels: dict[str, Mapping[str, str]] = {}
        self.failing = ""

    def built(self, names: Collection[str]) -> list[str]:
        return list(names)

    def id(self, reference: str) -> str:
        return f"sha256:{reference}" if reference in self.holds else ""

    def label(self, reference: str, name: str) -> str:
        return self.labels.get(reference, {}).get(name, "")

    def running(self, name: str) -> str:
        return f"running-{name}"

    def build(
        self,
        name: str,
        tag: str,
        folders: Mapping[Path, Path],
        commit: str,
        labels: Mapping[str, str],
        timeout: float,
        memory: int | None = None,
    ) -> None:
        if self.failing:
            raise AdapterError(self.failing)
        (folder,) = [instead for place, instead in folders.items() if place.name == name]
        self.holds[tag] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        self.labels[tag] = labels

    def tag(self, reference: str, tag: str) -> None:
        self.holds[tag] = [reference]

    def tags(self, repository: str) -> list[str]:
        return [tag for tag in self.holds if tag.startswith(f"{repository}:")]

    def untag(self, tag: str) -> None:
        self.holds.pop(tag, None)
        self.labels.pop(tag, None)


class Composed(MemoryServices):
    """Services whose manager builds images."""

    def __init__(self) -> None:
        super().__init__([SERVICE])
        self.images = MemoryImages()


@pytest.fixture
def services() -> Composed:
    return Composed()


@pytest.fixture
def site(make: Callable[..., Run], services: Composed, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A frontend in an image that its manager builds."""

    def made(**target: Any) -> Run:
        run = make(**{"build": ["true"], "artifact": None, **target})
        run.commit("Ignore it", **{".gitignore": ".env\n"})
        run.context.adapters = Adapters(run.context.target, run.context.folder, services=services)
        monkeypatch.setattr(builds, "running", lambda context, name: builds.expected(context, name))
        return run

    return made


def look(run: Run) -> tuple[Status, str]:
    return images.build(run.context, [SERVICE])[SERVICE]


def test_an_image_is_of_the_old_code_and_goes_with_a_preview(site: Callable[..., Run], services: Composed) -> None:
    run = site()
    commit = run.step(BUILD).preview().facts["commit"]

    status, image = look(run)
    assert (status, image) == (Status.PASS, f"sha256:{images.tag(run.context, SERVICE, commit)}")
    run.context.adapters.close()

    assert services.images.holds == {}


def test_kept_images_are_taken_by_what_is_checked_out_and_purged(site: Callable[..., Run], services: Composed) -> None:
    run = site()
    new = run.git("rev-parse", "HEAD")
    run.approve(REVERT, BUILD)
    look(run)
    run.step(BUILD).make_ready()
    run.step(START).make_ready()
    run.context.adapters.close()
    before = images.to_start(run.context, [SERVICE], back=True)
    run.apply(REVERT)
    after = [images.to_start(run.context, [SERVICE], back=back) for back in (False, True)]

    old = run.git("rev-parse", "HEAD")
    assert before == {SERVICE: f"sha256:{images.tag(run.context, SERVICE, new, previous=True)}"}
    assert after == [{SERVICE: f"sha256:{images.tag(run.context, SERVICE, old)}"}] * 2
    assert services.images.holds[images.tag(run.context, SERVICE, new, previous=True)] == [f"running-{SERVICE}"]
    assert images.ITEM in run.debts
    run.step(START).purge(images.ITEM)
    assert (services.images.holds, images.ITEM in run.debts) == ({}, False)


def test_what_does_not_build_is_named_beforehand(site: Callable[..., Run], services: Composed) -> None:
    run = site()
    services.images.failing = "The image of frontend does not build: no space left"

    status, why = look(run)

    assert (status, "no space left" in why, "users wait for that build" in why) == (Status.FAIL, True, True)
    assert images.to_start(run.context, [SERVICE], back=False) == {}


def test_an_image_of_code_that_does_not_build_is_not_tried(site: Callable[..., Run], services: Composed) -> None:
    status, why = look(site(build=["false"]))

    assert (status, "false" in why, services.images.holds) == (Status.FAIL, True, {})


def test_without_a_build_step_ignored_files_are_asked_for(site: Callable[..., Run], services: Composed) -> None:
    def looked(**target: Any) -> tuple[Status, str]:
        run.context.target.repositories["frontend"] = run.context.target.repositories["frontend"].model_copy(update=target)
        run.context.adapters.close()
        return look(run)

    run = site()
    (run.path() / ".env").write_text("API_URL=x\n")
    full = run.context.plan.types["full"]
    left = full.model_copy(update={"steps": [name for name in full.steps if not name.startswith("build-")]})
    run.context.plan = run.context.plan.model_copy(update={"types": {**run.context.plan.types, "full": left}})

    assert looked()[0] is Status.UNKNOWN
    assert looked(build_files=[".env"])[0] is Status.PASS
    assert [".env" in held for held in services.images.holds.values()] == [True]
    assert looked(build_files=[])[0] is Status.PASS
    assert [".env" in held for held in services.images.holds.values()] == [False]


def test_an_image_of_other_files_is_built_again(site: Callable[..., Run], services: Composed) -> None:
    run = site(build_files=[".env"])
    (run.path() / ".env").write_text("API_URL=x\n")
    run.debts[images.ITEM] = "kept by an earlier try"
    look(run)
    made = dict(services.images.labels)
    for text, again in (("API_URL=x\n", False), ("API_URL=y\n", True)):
        (run.path() / ".env").write_text(text)
        run.context.adapters.close()
        look(run)

        assert (services.images.labels != made) is again
