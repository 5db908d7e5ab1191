"""A visit from a browser: the course in a process of its own, by way of textual-serve."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from labs.engine.learn.running import read_to_end, send_signal

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
    from pathlib import Path

    from aiohttp import web

USUAL_SIZE = (80, 24)
SIZES = range(1, 1000)  # columns or rows
PATIENCE = 5.0  # seconds for an application to end in order


class Visit(AppService):
    """The application of one page; its process is started without a shell."""

    def __init__(self, command: Sequence[str], folder: Path, page: web.WebSocketResponse) -> None:
        async def close() -> None:
            await page.close()

        super().__init__(
            "",
            write_bytes=page.send_bytes,
            write_str=page.send_str,
            close=close,
            download_manager=DownloadManager(),
        )
        self._words = command
        self._folder = folder

    async def take(self, text: str) -> None:
        """Take what the page says; nothing where it is none of what a page says."""
        try:
            message = json.loads(text)
        except ValueError:
            return
        match message:
            case ["stdin", str(keys)]:
                await self.send_bytes(keys.encode())
            case ["resize", {"width": int(width), "height": int(height)}] if (
                width in SIZES and height in SIZES
            ):
                await self.set_terminal_size(width, height)
            case ["ping", data]:
                await self.remote_write_str(json.dumps(["pong", data]))
            case ["blur"]:
                await self.blur()
            case ["focus"]:
                await self.focus()

    async def run(self) -> None:
        """Carry the screen to the page; close that when the application ends, however it does."""
        await super().run()
        await self.remote_close()

    async def end(self) -> None:
        """End the application, and wait until it is gone."""
        if self._process is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop(), PATIENCE)
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        if self._process.returncode is None:
            send_signal(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                await read_to_end(stream)

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._words,
            cwd=self._folder,
            env=self._build_environment(width, height),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,  # the terminal's signals are for the server
        )
        self._stdin = self._process.stdin
        return self._process


@contextlib.asynccontextmanager
async def open_visit(
    command: Sequence[str], folder: Path, page: web.WebSocketResponse, query: Mapping[str, str]
) -> AsyncIterator[Visit]:
    """The application for a page, which ends with the block."""
    visit = Visit(command, folder, page)
    # A start that is cancelled half-way would leave a process of which nobody knows.
    starting = asyncio.create_task(visit.start(*read_size(query)))
    try:
        await asyncio.shield(starting)
        yield visit
    finally:
        await to_its_end(close(visit, starting))


async def close(visit: Visit, starting: asyncio.Task[None]) -> None:
    """End a visit, once it has started."""
    await asyncio.wait([starting])
    await visit.end()


async def to_its_end(closing: Coroutine[None, None, None]) -> None:
    """Wait until something is closed, whoever cancels meanwhile: page and server may both do so."""
    task = asyncio.create_task(closing)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()


def read_size(query: Mapping[str, str]) -> tuple[int, int]:
    """The columns and rows that a page asks for; the usual ones where it does not."""
    try:
        columns, rows = int(query["width"]), int(query["height"])
    except (KeyError, ValueError):
        return USUAL_SIZE
    return (columns, rows) if columns in SIZES and rows in SIZES else USUAL_SIZE
