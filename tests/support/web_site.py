"""A web server whose pages a test gives."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = tuple[int, str, bytes]  # status, content type, body


@dataclass
class Site:
    """Pages by path; a page may be a function of the Authorization header."""

    url: str = ""
    pages: dict[str, Page | Callable[[str | None], Page]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # by path, besides the usual ones
    released: threading.Event = field(default_factory=threading.Event)  # lets /hangs and /drips end


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        if self.path == "/hangs":
            self.site.released.wait(30)
        if self.path == "/drips":
            self._drip()
            return
        page = self.site.pages.get(self.path, (404, "text/plain", b"no such page"))
        status, content_type, body = page(self.headers.get("Authorization")) if callable(page) else page
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.site.headers.get(self.path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.site.released.wait(0.05):
            self.wfile.write(b".")

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that leaves early is part of the suites


@contextmanager
def serving() -> Iterator[Site]:
    site = Site(pages={"/favicon.ico": (200, "image/x-icon", b"")})
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()
