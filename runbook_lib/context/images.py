"""Images of services whose manager builds them: the old version's, built before downtime, and the previous one.

Each has a tag with the run, the service and the commit, so the engine alone knows which images exist.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from runbook_lib.config.plan.steps import BuildingStep, RevertingStep
from runbook_lib.context import Context, builds, staged_build
from runbook_lib.context.old_code import commit_without
from runbook_lib.context.staged_build import Proof, some
from runbook_lib.errors import AdapterError
from runbook_lib.results import Found, Status
from runbook_lib.services import HasImages, Images

MADE_FROM = "runbook.made-from"  # the label of an image's inputs apart from the commit
ITEM = "images"  # the cleanup item
PREVIOUS = "-before"  # ends the tag of the image that ran before the run
WAITING = "users wait for that build"


def of_manager(context: Context) -> Images | None:
    """Return the images of the target's manager, None if it builds none. Pure."""
    services = context.adapters.services
    return services.images if isinstance(services, HasImages) else None


def built(context: Context, names: Collection[str]) -> list[str]:
    """Return the services whose image is built from a repository of the target. Read-only."""
    of_repositories, pinned = context.target.services.built_from, context.target.services.pinned
    here = [name for name in names if name in of_repositories and name not in pinned]
    images = of_manager(context)
    return images.built(here) if images and here else []


def tag(context: Context, service: str, commit: str, *, previous: bool = False) -> str:
    """Return the tag of an image. Pure."""
    return f"{of_run(context)}:{service}-{commit[:12]}{PREVIOUS if previous else ''}"


def changing(context: Context) -> list[str]:
    """Return the repositories whose code or build the run changes. Pure."""
    specs = context.specs.values()
    return list(dict.fromkeys(s.repository for s in specs if isinstance(s, RevertingStep | BuildingStep)))


def build(context: Context, names: Collection[str], *, tries: bool = True) -> dict[str, Found]:
    """Return service -> whether its image of the old version exists, trying to build the missing ones.

    Changes the scratch clone, and the engine's images under tags of the run, which end with this process unless kept.
    """
    repositories = context.target.services.built_from
    return {
        name: _built(context, name, repositories[name], tries)
        for name in built(context, names)
        if repositories[name] in changing(context)
    }


def _built(context: Context, service: str, repository: str, tries: bool) -> Found:
    images = of_manager(context)
    assert images
    name, made_from = tag(context, service, commit_without(context, repository)), _made_from(context, repository)
    known: Found | None = context.adapters.prepared.get(name)
    if known is None or (known[0] is Status.PASS and not images.id(name)):
        context.adapters.at_close(partial(_drop, context, images, name))
        made = images.label(name, MADE_FROM)
        if made and (context.state.begun_since or made == made_from):
            known = Status.PASS, images.id(name)
        elif tries:
            known = _build(context, images, service, repository, made_from)
        else:
            return Status.UNKNOWN, f"it is built at the start of {service}, and {WAITING}"
        context.adapters.prepared[name] = known
    return known


def _build(context: Context, images: Images, service: str, repository: str, made_from: str) -> Found:
    commit = commit_without(context, repository)
    name, target = tag(context, service, commit), context.target
    try:
        folders = {Path(target.repositories[r].path): staged_build.folder(context, r) for r in changing(context)}
        if files := _unnamed(context, repository):
            return Status.UNKNOWN, (
                f"the checkout has {some(files)}, which git ignores, so the image lacks them: list in "
                f"repositories.{repository}.build_files of the target those that it needs, or [] if it needs none"
            )
        timeout, limits = target.repositories[repository].timeout, target.repositories[repository].build_limits
        images.build(service, name, folders, commit, {MADE_FROM: made_from}, timeout, limits.memory)
    except AdapterError as error:
        return Status.FAIL, f"{error.what}\nUnless that is fixed, it is built at the start of {service}, and {WAITING}"
    return Status.PASS, images.id(name)


def unlimited(context: Context, names: Collection[str]) -> list[str]:
    """Return the services whose image build may use more processors than the target allows. Read-only."""
    repositories, here = context.target.repositories, context.target.services.built_from
    return [name for name in names if repositories[here[name]].build_limits.processors]


def _unnamed(context: Context, repository: str) -> list[str]:
    """Return ignored files that an image would lack, unless a build step checks that. Read-only."""
    if any(isinstance(s, BuildingStep) and s.repository == repository for s in context.specs.values()):
        return []
    return staged_build.unnamed_files(context, repository, Proof(commit_without(context, repository), 0))


def keep_previous(context: Context, names: Collection[str]) -> None:
    """Tag each service's running image if it is of the checked-out commit. Changes the engine's tags."""
    images = of_manager(context)
    for name in built(context, names):
        assert images
        expected = builds.expected(context, name)
        previous, running = tag(context, name, expected, previous=True), images.running(name)
        if running and not images.id(previous) and builds.same(_version(context, name), expected):
            images.tag(running, previous)


def _version(context: Context, service: str) -> str:
    try:
        return builds.running(context, service)
    except AdapterError:
        return ""


def to_start(context: Context, names: Collection[str], *, back: bool) -> dict[str, str]:
    """Return service -> the id of the image of its checked-out commit; with `back`, the previous one first. Read-only."""
    images, target = of_manager(context), context.target.services
    found = {}
    for name in names:
        if images and name in target.built_from and name not in target.pinned:
            expected = builds.expected(context, name)
            ids = (images.id(tag(context, name, expected, previous=previous)) for previous in (back, not back))
            found[name] = next(filter(None, ids), "")
    return {name: id for name, id in found.items() if id}


def remove(context: Context) -> list[str]:
    """Remove the tags of this run; returns them. Changes the engine's tags."""
    images = of_manager(context)
    if images is None:
        return []
    found = images.tags(of_run(context))
    for name in found:
        images.untag(name)
    return found


def of_run(context: Context) -> str:
    """Return the part of a run's tags before the colon. Pure."""
    return f"runbook-{context.folder.short}"


def _drop(context: Context, images: Images, name: str) -> None:
    """Remove a tag that no step of the run has kept. Changes the engine's tags."""
    if ITEM not in context.reporter.pending():
        with suppress(AdapterError):
            images.untag(name)


def _made_from(context: Context, repository: str) -> str:
    made: Mapping[str, object] = staged_build.built_from(context, repository)
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
