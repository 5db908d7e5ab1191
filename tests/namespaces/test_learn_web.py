"""`invoke learn --web`: who is let in, and a session in a real browser."""

import http.client
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.browser import open_browser
from tests.endings import INTERRUPTED
from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    ended,
    environment,
    find_children,
    look,
    new_token,
    run,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PATHS = ("/", "/ws", "/static/js/textual.js", "/page/course.css", "/download/x", "/nothing")


@dataclass(frozen=True)
class Server:
    """A server of the course, and the address that it has printed."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        """Where it listens."""
        port = urlsplit(self.url).port
        assert port
        return port

    @property
    def token(self) -> str:
        """What lets one in."""
        return urlsplit(self.url).query.removeprefix("token=")

    @property
    def cookie(self) -> dict[str, str]:
        """The header of whoever was there before."""
        return {"Cookie": f"bindlab-{self.port}={self.token}"}

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """What it answers; a name's underlines stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        response = connection.getresponse()
        connection.close()
        return response


@contextmanager
def open_server(folder: Path, *options: str, token: str = "") -> Iterator[Server]:
    state = {"XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
    process = subprocess.Popen(
        [*INVOKE, "learn", "--web", *options],
        cwd=ROOT,
        env=environment(token, **state),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with ended(process):  # type: ignore[arg-type]  # text or bytes, it ends alike
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address
        yield Server(process, address[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with open_server(tmp_path_factory.mktemp("course")) as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_let_in_without_the_token(server: Server, path: str) -> None:
    assert server.get(path).status == 403
    assert server.get(f"{path}?token=another").status == 403
    assert server.get(path, Cookie=f"bindlab-{server.port}=another").status == 403


@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_let_in_by_another_name_or_page(server: Server, path: str) -> None:
    assert server.get(path, **server.cookie, Host=f"bindlab.example:{server.port}").status == 403
    assert server.get(path, **server.cookie, Origin="http://bindlab.example").status == 403


def test_the_first_visit_gives_a_cookie_that_no_script_and_no_other_page_has(
    server: Server,
) -> None:
    response = server.get(f"/?token={server.token}")
    assert response.status == 200
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith(f"bindlab-{server.port}={server.token};")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert server.get("/", **server.cookie).headers["Set-Cookie"] is None
    assert server.get("/static/js/textual.js", **server.cookie).status == 200


def test_a_socket_is_for_the_page_alone(server: Server) -> None:
    here = {"Origin": f"http://127.0.0.1:{server.port}"}
    assert server.get("/ws", **UPGRADE, **here).status == 403
    assert server.get("/ws", **UPGRADE, **server.cookie).status == 403
    there = {"Origin": "http://127.0.0.1:1"}
    assert server.get("/ws", **UPGRADE, **server.cookie, **there).status == 403
    assert server.get("/ws", **UPGRADE, **server.cookie, **here).status == 101
    wait_until(lambda: not find_children(server.process.pid), "the page's course has ended")


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    addresses = subprocess.run(
        ["ss", "-Htln", f"sport = :{server.port}"], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    assert [line.split()[3] for line in addresses if line] == [f"127.0.0.1:{server.port}"]


def test_no_page_has_anything_from_elsewhere() -> None:
    page = ROOT / "labs" / "engine" / "learn" / "page"
    for path in page.iterdir():
        assert not re.search(r"(https?:)?//[a-z]", path.read_text().replace("// ", "")), path


def test_a_port_that_is_taken_is_a_usage_error() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("learn", "--web", "--port", str(port))
    assert (done.status, done.output) == (2, "")
    assert f"Cannot have port {port}: Address already in use." in done.errors
    assert "Without --port a free one is taken." in done.errors


class Session:
    """A page with the course: what it has shown so far is read on its way there."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.troubles: list[str] = []
        self.requests: list[str] = []
        self._shown = ""
        self._seen = 0
        page.on("console", lambda said: self._note(said.type == "error", said.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda asked: self.requests.append(asked.url))
        page.on("websocket", lambda channel: channel.on("framereceived", self._read))
        page.goto(url)

    def press(self, *keys: str) -> None:
        """Press keys; what is waited for next is what comes of them."""
        self._seen = len(self._shown)
        for key in keys:
            self.page.keyboard.press(key)

    def see(self, words: str) -> None:
        """Wait until the page is given these words."""
        deadline = time.monotonic() + TIMEOUT
        while words not in self._shown[self._seen :]:
            assert time.monotonic() < deadline, f"{words} did not come: {self._shown!r}"
            self.page.wait_for_timeout(20)  # in which the page's events are attended to

    def _note(self, is_trouble: bool, text: str) -> None:
        if is_trouble:
            self.troubles.append(text)

    def _read(self, frame: bytes | str) -> None:
        self._shown += frame.decode(errors="replace") if isinstance(frame, bytes) else frame


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.browser
def test_nothing_is_left_of_a_server_with_a_lab_that_runs(
    end: signal.Signals, tmp_path: Path
) -> None:
    token = new_token()
    before = look(token)
    with open_server(tmp_path, token=token) as server, open_browser() as browser:
        session = Session(browser.new_page(), server.url)
        session.see("labs run")
        session.press("Enter")
        session.see("Press r")
        session.press("r")
        session.see("What will it come to?")
        server.process.send_signal(end)
        status = server.process.wait(10)
        assert status == (INTERRUPTED if end is not signal.SIGKILL else -signal.SIGKILL)
        assert wait_for_nothing(before, token) == {}
        if end is not signal.SIGKILL:
            assert server.process.stdout
            assert "Traceback" not in server.process.stdout.read()


@pytest.mark.browser
def test_a_session_in_a_browser(tmp_path: Path) -> None:
    with open_server(tmp_path, "--lang", "zh") as server, open_browser() as browser:
        page = browser.new_page(viewport={"width": 1300, "height": 800})
        session = Session(page, server.url)
        page.wait_for_selector("body.-first-byte")
        session.see("\u8c01\u53ef\u4ee5\u76d1\u542c\u4e00\u4e2a\u7aef\u53e3")
        assert page.url == f"http://127.0.0.1:{server.port}/"  # the token is not to be seen
        (course,) = find_children(server.process.pid)
        session.press("Enter")
        session.see("\u6309 r \u8fd0\u884c\u5b9e\u9a8c")
        session.press("r")
        session.see("\u4f1a\u5f97\u5230\u4ec0\u4e48")
        assert find_children(course)
        session.press("1")
        session.see("\u6309 n \u5230\u4e0b\u4e00\u6b65")
        session.press("Control+c")
        page.wait_for_selector("body.-closed #ended")
        assert "\u8bfe\u7a0b\u5df2\u7ed3\u675f" in page.inner_text("#ended")
        wait_until(lambda: not find_children(server.process.pid), "the course has ended")
        page.keyboard.press("Enter")
        page.wait_for_selector("body.-first-byte:not(.-closed)")
        assert session.troubles == []
        here = f"http://127.0.0.1:{server.port}/"
        assert [url for url in session.requests if not url.startswith(here)] == []

        refused = browser.new_page().goto(here)
        assert refused
        assert refused.status == 403
