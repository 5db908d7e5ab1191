"""The course in a browser: the adapter to textual-serve, on this machine alone.

Each page that is opened has an application of its own, in a process that ends with the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, ExitStatus, UsageError, standard_output
from labs.engine.learn.gate import Gate
from labs.engine.learn.interrupts import heed_signals
from labs.engine.learn.words import speaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeAlias

    from aiohttp import web

    from labs.engine.learn.learn import LearnOptions

    Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAGE = Path(__file__).parent / "page"
ROOT = Path(__file__).parents[3]
ADDRESS = "127.0.0.1"
PORTS = range(1, 65_536)
SERVED = "labs.engine.learn.served"


def serve(options: LearnOptions) -> ExitStatus:
    """Serve the course until a signal comes. Raises UsageError and CannotRun."""
    try:
        import textual_serve.server  # noqa: F401
    except ModuleNotFoundError as error:
        raise CannotRun(f"{error.name} is not installed.", "pip install 'bindlab[web]'") from error
    logging.getLogger("textual-serve").addHandler(logging.NullHandler())
    with bind_to(options.port) as listener:
        gate = Gate(listener.getsockname()[1])
        say = speaker(options.language)
        out = standard_output()
        out.write(f"{say('The course is at')}  {gate.url}\n")
        out.write(f"{say('Open it in a browser of this machine. Ctrl-C ends it.')}\n")
        out.flush()
        asyncio.run(run_server(listener, gate, options))
    return ExitStatus.INTERRUPTED


def bind_to(port: int | None) -> socket.socket:
    """A socket that listens on this machine alone; UsageError where the port cannot be had."""
    if port is not None and port not in PORTS:
        raise UsageError(f"--port takes a number from 1 to 65535, not {port}.")
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port or 0))
        listener.listen()
    except OSError as error:
        listener.close()
        hint = "Without --port a free one is taken."
        raise UsageError(f"Cannot have port {port}: {error.strerror}.", hint) from error
    return listener


async def run_server(listener: socket.socket, gate: Gate, options: LearnOptions) -> None:
    """Answer requests until a signal comes; then end all applications, and wait for their ends."""
    from aiohttp import web

    ended = asyncio.Event()
    heed_signals(ended.set)
    site = Site(gate, options)
    runner = web.AppRunner(site.application(), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, shutdown_timeout=1.0).start()
        await ended.wait()
    finally:
        await site.end()
        await runner.cleanup()


class Site:
    """What the server has: the page, textual-serve's files, and an application for each visitor."""

    def __init__(self, gate: Gate, options: LearnOptions) -> None:
        import textual_serve

        self._gate = gate
        self._options = options
        self._static = Path(textual_serve.__file__).parent / "static"
        self._visits: set[asyncio.Task[None]] = set()
        self._is_ending = False

    def application(self) -> web.Application:
        """The routes, behind the gate."""
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        application = web.Application(middlewares=[guard])
        application.on_response_prepare.append(self._add_headers)
        application.add_routes(
            [
                web.get("/", self._show_page),
                web.get("/ws", self._visit),
                web.static("/static", self._static),
                web.static("/page", PAGE),
            ]
        )
        return application

    async def end(self) -> None:
        """End all applications, and wait for that; a page that comes back gets no other one."""
        self._is_ending = True
        visits = [*self._visits]
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        from aiohttp import web

        fault = self._gate.find_fault(
            request.headers, request.query, request.cookies, is_socket=request.path == "/ws"
        )
        if fault:
            return web.Response(status=403, text=f"{fault}\n")
        response = await handler(request)
        if not response.prepared and self._gate.gives_token(request.query):
            response.set_cookie(
                self._gate.cookie, self._gate.token, httponly=True, samesite="Strict", path="/"
            )
        return response

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._gate.headers)

    async def _show_page(self, request: web.Request) -> web.Response:
        from aiohttp import web

        say = speaker(self._options.language)
        values = {
            "language": self._options.language,
            "websocket": f"ws://{request.host}/ws",
            "ended": say("The course has ended."),
            "again": say("Begin again"),
        }
        text = (PAGE / "course.html").read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(f"{{{{ {name} }}}}", value)
        return web.Response(text=text, content_type="text/html")

    async def _visit(self, request: web.Request) -> web.WebSocketResponse:
        """Let a browser have an application of its own, until either ends."""
        from aiohttp import web

        page = web.WebSocketResponse(heartbeat=15)
        await page.prepare(request)
        if self._is_ending:
            await page.close()
            return page
        task = asyncio.create_task(self._attend(page, request.query))
        self._visits.add(task)
        task.add_done_callback(self._visits.discard)  # later than this where the page has gone
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            await page.close()
        return page

    async def _attend(self, page: web.WebSocketResponse, size: Mapping[str, str]) -> None:
        """Carry keys to the application and its screen to the page."""
        from aiohttp import WSMsgType

        from labs.engine.learn.visit import open_visit

        command = [
            *(sys.executable, "-m", SERVED),
            str(os.getpid()),
            json.dumps(asdict(self._options)),
        ]
        async with open_visit(command, ROOT, page, size) as visit:
            async for message in page:
                if message.type is WSMsgType.TEXT:
                    await visit.take(message.data)
