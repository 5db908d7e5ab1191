"""A mirror of Debian's on this machine, which hands on what the real one has, whole or not."""

import contextlib
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support import TIMEOUT


class Mirror(ThreadingHTTPServer):
    """Hands on what another mirror has.

    `spoiled` and `missing` are parts of paths: of files that get one other byte, and of files that
    are not there. While `gate` is closed, packages stop halfway; `halfway` tells that one has.
    """

    daemon_threads = True

    def __init__(self, upstream: str, cache: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.upstream = upstream.rstrip("/")
        self.cache = cache
        self.asked: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Be as good a mirror as the other one."""
        self.asked.clear()
        self.spoiled = self.missing = "nothing"
        self.gate = threading.Event()
        self.gate.set()
        self.halfway = threading.Event()

    def get(self, path: str) -> bytes:
        """What is at a path, got once from the other mirror."""
        file = self.cache / path.strip("/").replace("/", "_")
        if not file.exists():
            with urllib.request.urlopen(self.upstream + path, timeout=TIMEOUT) as answer:
                file.write_bytes(answer.read())
        content = file.read_bytes()
        if self.spoiled in path:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        return content


class Handler(BaseHTTPRequestHandler):
    """Answers one connection of apt's."""

    server: Mirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        mirror = self.server
        mirror.asked[self.path] += 1
        try:
            if mirror.missing in self.path:
                raise FileNotFoundError
            content = mirror.get(self.path)
        except (urllib.error.HTTPError, FileNotFoundError):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        with contextlib.suppress(ConnectionError):  # whoever asked was killed
            self.wfile.write(content[:half])
            if self.path.endswith(".deb") and not mirror.gate.is_set():
                mirror.halfway.set()
                mirror.gate.wait(TIMEOUT)
            self.wfile.write(content[half:])

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def open_mirror(upstream: str, cache: Path) -> Iterator[Mirror]:
    """A mirror that serves until the block ends."""
    with Mirror(upstream, cache) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.gate.set()
            mirror.shutdown()
            thread.join()
