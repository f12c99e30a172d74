"""Which version of a service runs, and which should."""

import re

from runbook_lib.context import Context
from runbook_lib.errors import AdapterError
from runbook_lib.target import VersionByManager, VersionByUrl

SHORTEST_ID = 7  # a shorter commit id says too little


def running(context: Context, service: str) -> str:
    """The version that a service says it runs. Read-only.

    Raises:
        AdapterError: It does not answer, or does not say.
    """
    source = context.target.services.versions[service]
    if isinstance(source, VersionByManager):
        return context.services.version(service)
    if isinstance(source, VersionByUrl):
        answer = context.http.get(source.url, timeout=5)
        version = answer.json.get(source.field) if isinstance(answer.json, dict) else None
        if answer.status != 200:
            raise AdapterError(f"{source.url} answers {answer.status}.", where=service)
    else:
        found = re.findall(source.log, "\n".join(context.services.logs(service, None)))
        version = found[-1] if found else None
    if not version:
        raise AdapterError(f"{service} does not say which version it runs.", where=str(source))
    return str(version)


def wanted(context: Context, service: str) -> str:
    """What a service must run: its pinned image or release, else the commit that its repository holds now. Read-only."""
    if service in context.target.services.pinned:
        return context.target.services.pinned[service]
    return context.checkout(context.target.services.built_from[service]).head()


def same(running_version: str, wanted_version: str) -> bool:
    """Whether a version is the wanted one: the very same image or release, or the same commit by its full or short id."""
    if running_version == wanted_version:
        return True
    is_commit = re.fullmatch(r"[0-9a-f]{40,64}", wanted_version)
    return bool(is_commit) and len(running_version) >= SHORTEST_ID and wanted_version.startswith(running_version)
