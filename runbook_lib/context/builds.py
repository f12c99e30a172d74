"""Builds code with the target's commands, and tells which version runs and which should."""

import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from runbook_lib.config.plan import BuildingStep
from runbook_lib.config.target import VersionByManager, VersionByUrl
from runbook_lib.context import Context
from runbook_lib.errors import AdapterError, PreconditionError
from runbook_lib.git import Checkout
from runbook_lib.redaction import Lines
from runbook_lib.system.processes import shown

KEPT = 200  # lines of what the commands said last
TAIL = 10  # of those, how many go into an error
EVERY = 1.0  # seconds between two lines that are told

Report = Callable[[str], object]


def build(
    context: Context,
    repository: str,
    path: Path,
    evidence: str = "",
    report: Report | None = None,
    more_caches: Sequence[str] = (),
) -> list[str]:
    """Remove the plan's caches and more, install and build the code at `path`; returns the caches that were there.

    What the target's commands said last is kept in the run's `evidence`, where it is named, however they end. Changes the
    work tree at `path`.

    Raises:
        PreconditionError: A cache to be removed is tracked, or leads out of the repository.
        AdapterError: A command failed, or did not end in time.
    """
    target = context.target.repositories[repository]
    said: deque[str] = deque(maxlen=KEPT)
    removed: list[str] = []
    told_at, clean = 0.0, Lines()

    def told(line: str) -> None:
        nonlocal told_at
        line = clean(line)
        said.append(line)
        if report and line.strip() and time.monotonic() - told_at > EVERY:
            told_at = time.monotonic()
            report(line)

    try:
        for cache in dict.fromkeys([*caches(context, repository), *more_caches]):
            removed += [cache] if clear(Checkout(path, context.adapters.processes), cache) else []
        for command in [target.install, target.build] if target.install else [target.build]:
            said.append(f"$ {shown(command)}")
            done = context.adapters.processes.run(command, cwd=path, timeout=target.timeout, report=told)
            said.append(f"[exit code {done.exit_code} after {done.seconds:.1f} s]")
            done.require()
    except AdapterError as error:
        last = "\n".join(line for line in list(said)[-TAIL:] if line.strip())
        raise AdapterError(
            f"{error.what}\nWhat was said last:\n{last}", where=str(path), state=error.state, safe_next=error.safe_next
        ) from error
    finally:
        if evidence:
            context.folder.write_text(evidence, "\n".join([*said, ""]))
    return removed


def built_version(context: Context, repository: str, path: Path, commit: str) -> bool | None:
    """Whether the build at `path` is of `commit`; None where the target names no artifact to tell by. Read-only."""
    artifact = context.target.repositories[repository].artifact
    if artifact is None:
        return None
    try:
        return commit[:12] in (path / artifact).read_text(encoding="utf-8")
    except OSError:
        return False


def caches(context: Context, repository: str) -> list[str]:
    """What the plan has removed before a build of a repository. Read-only."""
    specs = context.plan.steps.values()
    return [path for s in specs if isinstance(s, BuildingStep) and s.repository == repository for path in s.clear]


def clear(checkout: Checkout, cache: str) -> bool:
    """Remove a cache inside a work tree; tells whether it was there. Changes the work tree.

    Raises:
        PreconditionError: It is tracked, or leads out of the work tree.
    """
    path = checkout.path / cache
    steps = [path, *path.parents][: len(Path(cache).parts)]
    if link := next((part for part in reversed(steps) if part.is_symlink()), None):
        raise _refused(checkout, f"{cache} is not removed: {link} is a link, and leads elsewhere")
    if not path.resolve().is_relative_to(checkout.path.resolve()):
        raise _refused(checkout, f"{cache} is not removed: it leads out of the repository")
    if not path.exists():
        return False
    if checkout.files(cache):
        raise _refused(checkout, f"{cache} is not removed: git tracks files in it, so it is no cache")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True


def _refused(checkout: Checkout, what: str) -> PreconditionError:
    return PreconditionError(
        f"{what}.",
        where=str(checkout.path),
        state="Nothing of it was removed.",
        safe_next="Mend `clear` of the build step in the plan, or remove it by hand.",
    )


SHORTEST_ID = 7  # a shorter commit id says too little


def running(context: Context, service: str) -> str:
    """The version that a service says it runs. Read-only.

    Raises:
        AdapterError: It does not answer, or does not say.
    """
    source = context.target.services.versions[service]
    if isinstance(source, VersionByManager):
        return context.adapters.services.version(service)
    if isinstance(source, VersionByUrl):
        answer = context.adapters.http.get(source.url, timeout=5)
        version = answer.json.get(source.field) if isinstance(answer.json, dict) else None
        if answer.status != 200:
            raise AdapterError(f"{source.url} answers {answer.status}.", where=service)
    else:
        found = re.findall(source.log, "\n".join(context.adapters.services.logs(service, None)))
        version = found[-1] if found else None
    if not version:
        raise AdapterError(f"{service} does not say which version it runs.", where=str(source))
    return str(version)


def wanted(context: Context, service: str) -> str:
    """What a service must run: its pinned image or release, else the commit that its repository holds now. Read-only."""
    if service in context.target.services.pinned:
        return context.target.services.pinned[service]
    return context.checkout(context.target.services.built_from[service]).head()


_COMMIT = re.compile(rf"[0-9a-f]{{{SHORTEST_ID},64}}")


def comparable(context: Context, service: str, version: str) -> bool:
    """Whether a version can be compared with what the service must run: a release with a release, a commit with a commit."""
    return service in context.target.services.pinned or bool(_COMMIT.fullmatch(version))


def same(running_version: str, wanted_version: str) -> bool:
    """Whether a version is the wanted one: the very same image or release, or the same commit by its full or short id."""
    if running_version == wanted_version:
        return True
    is_commit = re.fullmatch(r"[0-9a-f]{40,64}", wanted_version)
    return bool(is_commit) and len(running_version) >= SHORTEST_ID and wanted_version.startswith(running_version)
