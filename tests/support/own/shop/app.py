"""Serves orders, with their fees."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg

VERSION = json.loads((Path(__file__).parent / "version.json").read_text())["version"]
ORDERS = "SELECT id, cents, fee FROM orders ORDER BY id"


class Orders(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, {"version": VERSION}
        if self.path == "/orders":
            with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
                body = {"orders": [{"id": i, "cents": c, "fee": f} for i, c, f in connection.execute(ORDERS)]}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


print(f"INFO version {VERSION} started", flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Orders).serve_forever()
