"""A proxy before a tracking server that refuses some requests, as a body limit or an older server does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = ("connection", "transfer-encoding", "content-length", "content-encoding", "host", "accept-encoding")


@contextmanager
def refusing(server: str, max_body_bytes: int = 2**40, unknown: tuple[str, ...] = ()) -> Iterator[str]:
    """Run the proxy; yields its address.

    Args:
        server: the address of the tracking server.
        max_body_bytes: larger bodies are answered with 413.
        unknown: parts of paths that are answered with 404, as a server does that lacks them.
    """
    target = urlsplit(server).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection for each request, so that none outlives the proxy

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if len(body) > max_body_bytes:
                self._answer(413, b"Request Entity Too Large", "text/html")
                return
            if any(part in self.path for part in unknown):
                self._answer(404, b"<!doctype html><title>404 Not Found</title>", "text/html")
                return
            connection = http.client.HTTPConnection(target, timeout=60)
            headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self._answer(answer.status, answer.read(), answer.getheader("Content-Type", "application/json"))
            connection.close()

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()
