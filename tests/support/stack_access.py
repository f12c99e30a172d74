"""What a test asks of a rehearsal stack."""

import json
import subprocess
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from runbook_lib.rehearsal.stack import Stack

THREAD = "/api/messaging/conversations/1/messages"
ROWS = 200


def request(url: str, token: str = "", body: dict[str, Any] | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    asked = Request(url, json.dumps(body).encode() if body else None, headers)
    answer: HTTPResponse | HTTPError
    try:
        answer = urlopen(asked, timeout=5)
    except HTTPError as error:
        answer = error
    with answer:
        content = answer.read()
        return answer.status or 0, json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()


def api(running: Stack, path: str, token: str | None = None, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    given = running.environment["REHEARSAL_API_TOKEN"] if token is None else token
    return request(running.environment["REHEARSAL_BACKEND_URL"] + path, given, body)


def git(directory: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=directory, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def pid(running: Stack, service: str) -> int:
    return int(running.supervisor.call("getProcessInfo", service)["pid"])
