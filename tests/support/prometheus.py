"""A server that speaks the HTTP API of Prometheus as its documentation has it: instant queries, with series of a test's."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DEFAULT_LOOKBACK = 300.0  # seconds


@dataclass
class Series:
    """A series: its labels, its last value, and how many seconds old that sample is."""

    value: str
    labels: dict[str, str] = field(default_factory=dict)
    age: float = 0.0


@dataclass
class Prometheus:
    """Answers by query: series for a vector, a number for a scalar, or a whole answer with its status."""

    url: str = ""
    answers: dict[str, list[Series] | float | tuple[int, Any]] = field(default_factory=dict)
    token: str = ""
    clock: float = 0.0  # seconds by which its clock is ahead
    warnings: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, query: dict[str, str], header: str) -> tuple[int, Any]:
        self.asked.append(query)
        if self.token and header != f"Bearer {self.token}":
            return 401, "Unauthorized"
        found = self.answers.get(query["query"])
        if found is None:
            return 400, {"status": "error", "errorType": "bad_data", "error": "1:7: parse error: unclosed left parenthesis"}
        if isinstance(found, tuple):
            return found
        now = time.time() + self.clock
        lookback = float(query["lookback_delta"].rstrip("s")) if "lookback_delta" in query else DEFAULT_LOOKBACK
        data: dict[str, Any] = {"resultType": "scalar", "result": [now, str(found)]}
        if isinstance(found, list):
            recent = [each for each in found if each.age <= lookback]
            data = {"resultType": "vector", "result": [{"metric": s.labels, "value": [now, s.value]} for s in recent]}
        return 200, {"status": "success", "data": data, **({"warnings": self.warnings} if self.warnings else {})}


class _Handler(BaseHTTPRequestHandler):
    server_of: Prometheus

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != "/prefix/api/v1/query":
            self.send_error(404)
            return
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, body = self.server_of.answer(query, self.headers.get("Authorization", ""))
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def prometheus() -> Iterator[Prometheus]:
    made = Prometheus()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_of": made}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/prefix/"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
