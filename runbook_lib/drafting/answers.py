"""Propose checks from the answers of a target: its health, the fields of an API's answers, a page. Read-only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.config.target import Target, VersionByUrl
from runbook_lib.errors import RunbookError
from runbook_lib.logs import access, json_lines
from runbook_lib.redaction import redact
from runbook_lib.services import Services
from runbook_lib.system.http import Answer, Http, without_credentials

HEALTH = ("/health", "/healthz", "/readyz", "/api/health", "/up")
DESCRIBED = "/openapi.json"
PAGES, APIS = 1, 2  # proposed for each endpoint
TRIED = 12  # addresses requested from each endpoint
FIELDS = 6  # proposed from one answer
WITHIN = timedelta(hours=1)  # the part of the log that is searched for users' requests
SECONDS = 5.0
_STATE = re.compile(r"(?!None|False)[A-Za-z][A-Za-z _-]{0,30}")  # a constant value: no number, time, version or commit
_STATIC = re.compile(r"\.(?!json|html)\w{2,5}$")
_GET = re.compile(r"GET (?P<path>/\S*) (?P<status>\d{3})")


@dataclass(frozen=True)
class Proposed:
    """A proposed check, and the observation behind it."""

    name: str
    keys: dict[str, Any]
    seen: str


def look(
    target: Target, services: Services, http: Http, token: str | None, knew: Callable[[str, str], bool]
) -> tuple[list[Proposed], list[str]]:
    """Return the checks that the answers suggest, and notes on what could not be seen. Read-only.

    Args:
        target: Its endpoints are requested.
        services: Their logs name the paths that users request.
        http: Sends the requests.
        token: The API's bearer token, sent where an address refuses without.
        knew: Whether the code of a service had a word before the feature.
    """
    found, notes = list[Proposed](), list[str]()
    for name in target.endpoints:
        endpoint = _Endpoint(target, name, http, token, knew)
        if not endpoint.answers():
            notes.append(f"{name} does not answer at {without_credentials(target.endpoints[name])}")
            continue
        found += [*endpoint.health(), *endpoint.others(_requested(services, name, notes))]
    return found, notes


def _requested(services: Services, name: str, notes: list[str]) -> list[str]:
    """Return the paths served to users within the hour, most frequent first."""
    try:
        lines = services.logs(name, datetime.now(UTC) - WITHIN)
    except RunbookError as error:
        notes.append(f"the log of {name} was not read: {error.what}")
        return []
    seen = (access.look(line) or json_lines.requested(line) for line in lines)
    asked = (_GET.fullmatch(each.said) for each in seen if each)
    counted = Counter(each["path"] for each in asked if each and each["status"] == "200")
    return [path for path, _ in counted.most_common() if redact(path) == path and not _STATIC.search(path)]


@dataclass(frozen=True)
class _Endpoint:
    target: Target
    name: str
    http: Http
    token: str | None
    knew: Callable[[str, str], bool]

    def answers(self) -> bool:
        """Whether the endpoint answers at all."""
        return self._ask("/")[0] is not None

    def health(self) -> Iterator[Proposed]:
        """Yield a check of the first health address that answers."""
        own = [path for path in self._told_version() if not path.endswith("version.json")]
        for path in dict.fromkeys([*own, *HEALTH]):
            answer, keys = self._ask(path)
            if answer is None or (answer.status != 200 and path not in own) or _is_page(answer):
                continue
            state = _state(answer.json, self._asked_again(path))
            said = f"{path} answers {answer.status}" + ("" if answer.status == 200 else ", which is no sign of health")
            title = f"{self.name} is healthy"
            seen = {"json": state} if state else {}
            yield Proposed(f"{self.name}-health", {**self._keys(title, path), **keys, **seen}, said)
            return

    def others(self, requested: Sequence[str]) -> Iterator[Proposed]:
        """Yield checks of a page and of API fields that the code before the feature also serves."""
        pages = apis = 0
        for path in [*dict.fromkeys(["/", *requested, *self._described()])][:TRIED]:
            if path in HEALTH or path in self._told_version():
                continue
            answer, keys = self._ask(path)
            if answer is None or answer.status != 200:
                continue
            if _is_page(answer) and pages < PAGES:
                pages += 1
                kind = {"headers": {"Content-Type": "text/html"}}
                of_page = {**self._keys(f"{self.name} shows its page", path), **keys, **kind}
                yield Proposed(f"{self.name}-page", of_page, f"{path} answers 200 with a page")
            fields = [each for each in _fields(answer.json) if self.knew(self.name, _word(each))]
            if fields and apis < APIS:
                apis += 1
                title = f"{self.name} serves what older code reads"
                number = f"-{apis}" if apis > 1 else ""
                seen = f"{path} answers 200 with these fields, which the code before has too"
                of_answer = {**self._keys(title + number.replace("-", ", "), path), **keys, "fields": fields[:FIELDS]}
                yield Proposed(f"{self.name}-answer{number}", of_answer, seen)

    def _keys(self, title: str, path: str) -> dict[str, Any]:
        return {"kind": "http", "title": title, "endpoint": self.name, "path": path}

    def _told_version(self) -> list[str]:
        """Return the paths where services report their versions on this endpoint."""
        base = self.target.endpoint(self.name)
        versions = self.target.services.versions.values()
        urls = [each.url for each in versions if isinstance(each, VersionByUrl) and f"{each.url}/".startswith(f"{base}/")]
        return [urlsplit(url).path or "/" for url in urls]

    def _described(self) -> list[str]:
        """Return the parameterless paths from the service's own API description."""
        answer, _ = self._ask(DESCRIBED)
        paths = answer.json.get("paths") if answer and answer.status == 200 and isinstance(answer.json, dict) else None
        if not isinstance(paths, dict):
            return []
        return [path for path, ways in paths.items() if "{" not in path and isinstance(ways, dict) and "get" in ways]

    def _asked_again(self, path: str) -> Any:
        answer, _ = self._ask(path)
        return answer.json if answer else None

    def _ask(self, path: str) -> tuple[Answer | None, dict[str, Any]]:
        """Request an address, with the token if it refuses without; return the answer and the keys of such a check."""
        url = f"{self.target.endpoint(self.name)}{path}"
        try:
            answer = self.http.get(url, timeout=SECONDS)
            if answer.status in (401, 403) and self.token and self.target.api_token:
                env = self.target.api_token.env
                return self.http.get(url, token=self.token, timeout=SECONDS), {"token": {"env": env}}
        except RunbookError:
            return None, {}
        return answer, {}


def _is_page(answer: Answer) -> bool:
    return "text/html" in answer.headers.get("content-type", "")


def _state(first: Any, second: Any) -> dict[str, Any]:
    """Return a check of a value that is one word or true, and equal in both answers; a release's version is excluded."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return {}
    stays = {key: value for key, value in first.items() if second.get(key) == value and re.fullmatch(r"\w+", key)}
    return {key: value for key, value in stays.items() if value is True or _STATE.fullmatch(str(value))}


def _fields(answer: Any) -> list[str]:
    """Return the paths of an answer's fields: those of each list element, else its own."""
    if isinstance(answer, dict):
        lists = [(key, value) for key, value in answer.items() if isinstance(value, list) and re.fullmatch(r"\w+", key)]
        if len(lists) == 1:
            return _of_each(f"{lists[0][0]}[].", lists[0][1])
        return _of_each("", [answer])
    return _of_each("[].", answer) if isinstance(answer, list) else []


def _of_each(path: str, elements: list[Any]) -> list[str]:
    if not elements or not all(isinstance(each, dict) for each in elements):
        return []
    shared = [key for key in elements[0] if all(key in each for each in elements)]
    return [f"{path}{key}" for key in shared if re.fullmatch(r"\w+", key)]


def _word(path: str) -> str:
    return path.rpartition(".")[2]
