"""Checks are proposed of what answers: its health, the fields that code from before serves too, a page."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from runbook_lib.config.target import Target
from runbook_lib.documents import load_target
from runbook_lib.drafting import answers
from runbook_lib.services import MemoryServices
from runbook_lib.system.http import Answer, MemoryHttp

from ..support.places import TARGET

NEW = ("attachments", "fee")
ORDERS = {"orders": [{"id": 1, "total": 5, "fee": 1}, {"id": 2, "total": 7, "fee": 1, "note": ""}]}


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    for name in ("APPLICATION_ROLE", "PG_BIN", "ROOT", "SUPERVISOR", "PYTHON", "API_TOKEN"):
        monkeypatch.setenv(f"REHEARSAL_{name}", "x")
    for name in ("BACKEND", "FRONTEND"):
        monkeypatch.setenv(f"REHEARSAL_{name}_URL", f"http://{name.lower()}")
    found = load_target(TARGET)
    return found.model_copy(update={"endpoints": {"backend": "http://backend"}})


def proposed(target: Target, pages: dict[str, Any], *requests: str) -> dict[str, dict[str, Any]]:
    def answer(url: str, token: str | None) -> Answer:
        path = url.removeprefix("http://backend")
        if path in ("/api/orders",) and not token:
            return Answer.of(401, "")
        if path not in pages:
            return Answer.of(404, "")
        page = pages[path]
        text = next(page) if isinstance(page, Iterator) else page
        kind = "text/html" if isinstance(text, str) else "application/json"
        return Answer.of(200, text if isinstance(text, str) else json.dumps(text), headers={"Content-Type": kind})

    services = MemoryServices(["backend"])
    services.lines["backend"] = [f'{datetime.now(UTC).isoformat()} INFO "GET {path} HTTP/1.1" 200 OK' for path in requests]
    found, _ = answers.look(target, services, MemoryHttp(answer), "a-token", lambda _, word: word not in NEW)
    return {each.name: each.keys for each in found}


def test_health_is_an_equal_answer_twice_in_words(target: Target) -> None:
    said = {"status": "ok", "ready": True, "version": "0f3c1a9", "uptime": 17, "at": "2026-12-01T10:00"}

    found = proposed(target, {"/health": iter([{**said, "node": "a"}, {**said, "node": "b"}])})

    assert found["backend-health"]["json"] == {"status": "ok", "ready": True}


def test_an_answer_that_users_ask_for_has_the_fields_of_before(target: Target) -> None:
    found = proposed(target, {"/api/orders": ORDERS}, "/api/orders?page=2", "/logo.png")

    assert found["backend-answer"]["path"] == "/api/orders"
    assert found["backend-answer"]["fields"] == ["orders[].id", "orders[].total"]
    assert found["backend-answer"]["token"] == {"env": "REHEARSAL_API_TOKEN"}


def test_paths_that_a_service_describes_are_asked_without_parameters(target: Target) -> None:
    described = {"paths": {"/items": {"get": {}}, "/items/{id}": {"get": {}}, "/sent": {"post": {}}}}

    found = proposed(target, {"/openapi.json": described, "/items": [{"id": 3}]})

    assert [(keys["path"], keys["fields"]) for name, keys in found.items() if "answer" in name] == [("/items", ["[].id"])]


def test_a_page_is_to_be_a_page_again(target: Target) -> None:
    found = proposed(target, {"/": "<h1>Shop</h1>"})

    assert found["backend-page"]["headers"] == {"Content-Type": "text/html"}
