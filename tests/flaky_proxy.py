"""A proxy on loopback before a tracking server, which answers some requests with a fault of its own."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

DROPPED = 0
"""A fault that is no status: the connection ends without an answer."""
Fault = Callable[[str, int], int | None]
"""Status by a request's path with its query and the number of earlier requests for it; None passes it on."""


class Proxy:
    """Passes requests on, except those that a rule answers.

    Attributes:
        uri: its address.
        fault: the rule; it may be replaced.
        asked: number of requests by method and path.
    """

    def __init__(self, server: str) -> None:
        self.fault: Fault = lambda path, before: None
        self.asked: Counter[str] = Counter()
        self._lock, host = threading.Lock(), urlsplit(server).netloc
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with proxy._lock:
                    before = proxy.asked[f"{self.command} {self.path}"]
                    proxy.asked[f"{self.command} {self.path}"] += 1
                status = proxy.fault(self.path, before)
                if status == DROPPED:
                    self.close_connection = True
                    return
                if status is not None:
                    self._answer(status, b"out of order", {})
                    return
                connection = http.client.HTTPConnection(host, timeout=30)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                self._answer(answer.status, answer.read(), {"Content-Type": answer.headers["Content-Type"] or ""})
                connection.close()

            do_POST = do_PUT = do_PATCH = do_GET

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def proxy(server: str) -> Iterator[Proxy]:
    """Start one before a server."""
    made = Proxy(server)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def once(status: int) -> Fault:
    """Fail the first request of each path."""
    return lambda path, before: status if before == 0 else None
