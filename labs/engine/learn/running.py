"""A run of a lab or a check in a process of its own, as the course sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import CannotRun, EngineError
from labs.engine.learn.messages import Ended, predictions_line, read_message

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Sequence

    from labs.engine.agent import Json
    from labs.engine.learn.child import Request
    from labs.engine.learn.messages import Message
    from labs.engine.prediction import Prediction

ROOT = Path(__file__).parents[3]
PROGRAM = "labs.engine.learn.child"
LONGEST_LINE = 64 << 20  # bytes: the evidence of thousands of sockets
LONG_LINE = 16 << 10  # bytes
PATIENCE = 3.0  # seconds for a process to end in order
LAST_LINES = 4  # of what a process has written to standard error


class Running:
    """The process that runs a request; started and ended by its owner."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._process: Process | None = None
        self._last_words: deque[str] = deque(maxlen=LAST_LINES)
        self._is_being_ended = False

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process else None

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Start the process, and yield what it says; its end is said too, however it comes.

        Where it dies without a word, what is said is that.
        """
        process = await self._start()
        listening = asyncio.create_task(self._listen(process))
        has_ended = False
        assert process.stdout
        try:
            async for line in process.stdout:
                message = await read_line(line)
                has_ended = has_ended or isinstance(message, Ended)
                yield message
            status = await self._wait(process)
            if not has_ended and not self._is_being_ended:
                yield self._tell_of_death(status)
        except ValueError as error:
            fault = EngineError(f"What the lab's process said cannot be read: {error}.")
            yield Ended(fault.status, fault.message)
        finally:
            await self.stop()
            await listening
            await read_to_end(process.stdout)

    def answer(self, answer: Json) -> None:
        """Answer the last question; nothing where nobody is there any more."""
        if self._process and self._process.stdin and not self._process.stdin.is_closing():
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps(answer).encode() + b"\n")

    def go_on(self) -> None:
        """Let the next step come."""
        self.answer(True)

    def say(self, predictions: Sequence[Prediction]) -> None:
        """Say what will come of the steps; of fewer where there are to be no more questions."""
        self.answer(list(predictions_line(predictions)))

    async def stop(self) -> None:
        """End the process, and wait until it and all its namespaces are gone."""
        self._is_being_ended = True
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        self._signal(signal.SIGKILL)
        await self._process.wait()

    async def _start(self) -> Process:
        words = (str(os.getpid()), json.dumps(asdict(self._request)))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", PROGRAM, *words),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=LONGEST_LINE,
                start_new_session=True,  # the terminal's signals are for the course
            )
        except OSError as error:
            raise CannotRun(f"Could not start a process: {error.strerror}.") from error
        if self._is_being_ended:
            self._signal(signal.SIGKILL)
        return self._process

    async def _listen(self, process: Process) -> None:
        assert process.stderr
        async for line in process.stderr:
            self._last_words.append(line.decode(errors="replace").rstrip())

    async def _wait(self, process: Process) -> int:
        """The status of a process that has nothing to say any more."""
        try:
            return await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            return await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            send_signal(self._process.pid, number)

    def _tell_of_death(self, status: int) -> Ended:
        how = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
        fault = EngineError(f"The lab's process has ended {how}.", "\n".join(self._last_words))
        return Ended(fault.status, fault.message, fault.hint)


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a child that has not been waited for; asyncio's own would wait for one that is over.

    Then whoever waits in asyncio's name finds no child, and says so on the terminal.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def read_line(line: bytes) -> Message:
    """The message of a line; ValueError where it is none.

    The evidence of thousands of sockets takes longer to read than a key may wait: a thread does it.
    """
    if len(line) <= LONG_LINE:
        return read_message(json.loads(line))
    return await asyncio.to_thread(lambda: read_message(json.loads(line)))


async def read_to_end(stream: asyncio.StreamReader) -> None:
    """Read what is left of a process that is gone: only then asyncio has closed all of it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stream.read(), PATIENCE)
