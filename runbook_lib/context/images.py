"""The images of services whose manager builds them: the old version's built before downtime, the former one kept.

Each is under a tag that names the run, the service and the commit, so that what is there is asked of the engine alone.
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

MADE_FROM = "runbook.made-from"  # the label of what besides the commit an image was made from
ITEM = "images"  # of cleanup
FORMER = "-before"  # ends the tag of the image that ran before the run
WAITING = "users wait for that build"


def of_manager(context: Context) -> Images | None:
    """The images of the target's manager, None where it builds none. Pure."""
    services = context.adapters.services
    return services.images if isinstance(services, HasImages) else None


def built(context: Context, names: Collection[str]) -> list[str]:
    """Those services that run in an image built from a repository of the target. Read-only."""
    of_repositories, pinned = context.target.services.built_from, context.target.services.pinned
    here = [name for name in names if name in of_repositories and name not in pinned]
    images = of_manager(context)
    return images.built(here) if images and here else []


def tag(context: Context, service: str, commit: str, *, former: bool = False) -> str:
    """The tag of an image. Pure."""
    return f"{of_run(context)}:{service}-{commit[:12]}{FORMER if former else ''}"


def changing(context: Context) -> list[str]:
    """The repositories whose code or build the run changes. Pure."""
    specs = context.specs.values()
    return list(dict.fromkeys(s.repository for s in specs if isinstance(s, RevertingStep | BuildingStep)))


def build(context: Context, names: Collection[str], *, tries: bool = True) -> dict[str, Found]:
    """Each service of those whose image is to be of the old version -> whether there is one; else its build is tried.

    Changes the scratch clone, and the engine's images by tags of the run; they go with this process unless they are kept.
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
                f"the checkout has {some(files)}, which git ignores, so that the image lacks them: name in "
                f"repositories.{repository}.build_files of the target those that it needs, or [] where it needs none"
            )
        timeout, limits = target.repositories[repository].timeout, target.repositories[repository].build_limits
        images.build(service, name, folders, commit, {MADE_FROM: made_from}, timeout, limits.memory)
    except AdapterError as error:
        return Status.FAIL, f"{error.what}\nUnless that is mended, it is built at the start of {service}, and {WAITING}"
    return Status.PASS, images.id(name)


def unlimited(context: Context, names: Collection[str]) -> list[str]:
    """Those services whose image is built with more processors than the target lets a build take. Read-only."""
    repositories, here = context.target.repositories, context.target.services.built_from
    return [name for name in names if repositories[here[name]].build_limits.processors]


def _unnamed(context: Context, repository: str) -> list[str]:
    """Ignored files that an image would lack; where a step builds, that step looks at it. Read-only."""
    if any(isinstance(s, BuildingStep) and s.repository == repository for s in context.specs.values()):
        return []
    return staged_build.unnamed_files(context, repository, Proof(commit_without(context, repository), 0))


def keep_former(context: Context, names: Collection[str]) -> None:
    """Keep the image that each runs in under a tag, where it says that it is of what is checked out. Changes the images."""
    images = of_manager(context)
    for name in built(context, names):
        assert images
        wanted = builds.expected(context, name)
        former, running = tag(context, name, wanted, former=True), images.running(name)
        if running and not images.id(former) and builds.same(_version(context, name), wanted):
            images.tag(running, former)


def _version(context: Context, service: str) -> str:
    try:
        return builds.running(context, service)
    except AdapterError:
        return ""


def to_start(context: Context, names: Collection[str], *, back: bool) -> dict[str, str]:
    """Service -> the id of the image of what is checked out; the former one first on the way back. Read-only."""
    images, target = of_manager(context), context.target.services
    found = {}
    for name in names:
        if images and name in target.built_from and name not in target.pinned:
            wanted = builds.expected(context, name)
            ids = (images.id(tag(context, name, wanted, former=former)) for former in (back, not back))
            found[name] = next(filter(None, ids), "")
    return {name: id for name, id in found.items() if id}


def remove(context: Context) -> list[str]:
    """Take off the tags of this run; returns them. Changes the images."""
    images = of_manager(context)
    if images is None:
        return []
    found = images.tags(of_run(context))
    for name in found:
        images.untag(name)
    return found


def of_run(context: Context) -> str:
    """What the tags of a run begin with, before a colon. Pure."""
    return f"runbook-{context.folder.short}"


def _drop(context: Context, images: Images, name: str) -> None:
    """Take a tag off that no step of the run has kept. Changes the images."""
    if ITEM not in context.reporter.pending():
        with suppress(AdapterError):
            images.untag(name)


def _made_from(context: Context, repository: str) -> str:
    made: Mapping[str, object] = staged_build.built_from(context, repository)
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
