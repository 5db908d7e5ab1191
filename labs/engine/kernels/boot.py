"""Boots a kernel, runs labs inside, and powers it off."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from labs.engine.agent import encode
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.kernels.confinement import start_confined
from labs.engine.kernels.guest import ENTROPY_SIZE, ENTROPY_VARIABLE, MODULES_VARIABLE
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.uml import uml_command
from labs.engine.model import HostOpened, RunEnded, RunStarted, StepStarted
from labs.engine.reading import read_event
from labs.engine.translation import ENGLISH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labs.engine.agent import Json, Message
    from labs.engine.kernels.confinement import Program
    from labs.engine.kernels.kernel import Kernel
    from labs.engine.model import Event

ROOT = os.path.realpath(f"{__file__}/../../../..")
GUEST = "labs.engine.kernels.guest"
UML_MEMORY = 224  # MiB; with what the machine takes besides at most 256, so that of QEMU less
QEMU_MEMORY = 176
BOOT_DEADLINE = 15.0  # seconds until the guest's first word
DEADLINE = 10.0  # seconds that a process inside may take to answer
SILENCE = 120.0  # seconds without an event, TIME_WAIT's 60 included
END_DEADLINE = 5.0  # seconds to power off
EMULATED = 6  # times as long for all this where the processor is emulated
LONGEST_LINE = 1 << 24
CONSOLE_KEPT = 1 << 15  # bytes
CONSOLE_SHOWN = 12  # lines
PANIC = "Kernel panic"


class Guest:
    """A kernel that boots or has booted, and its first program."""

    def __init__(self, kernel: Kernel, keeper: int, channel: socket.socket, console: int) -> None:
        self.kernel = kernel
        self._keeper = keeper
        self._channel = channel
        self._console = console
        self._said = b""
        self._buffer = bytearray()
        self._is_lost = False
        self._slowness = EMULATED if kernel.machine is Machine.QEMU else 1

    def wait_until_ready(self) -> str:
        """Wait for the guest's first word, its release; CannotRun where it does not come."""
        try:
            answer = self._receive(BOOT_DEADLINE * self._slowness)
        except EngineError as error:
            raise CannotRun(error.message, error.hint) from None
        match answer:
            case {"ready": str(release)}:
                return release
            case {"errno": int(number), "doing": str(doing)}:
                raise CannotRun(f"Could not {doing}: {os.strerror(number)}.")
        raise CannotRun(f"{self} answered nonsense: {answer}.", self._console_end())

    def run(
        self,
        request: Message,
        seed: int | None,
        emit: Callable[[Event], None],
        language: str = ENGLISH,
    ) -> ExitStatus:
        """Run a lab inside, or a check, and emit its events; raises EngineError or CannotRun."""
        self._send(
            {
                **request,
                "seed": seed,
                "language": language,
                "deadline": DEADLINE * self._slowness,
            }
        )
        ended: int | None = None
        while True:
            answer = self._receive(SILENCE * self._slowness)
            match answer:
                case {"event": str()}:
                    event = self._read(answer)
                    emit(event)
                    if isinstance(event, StepStarted):
                        self._send({})
                    if isinstance(event, RunEnded):
                        ended = event.status
                case {"end": int(status)} if status == ended:
                    return ExitStatus(status)
                case _:
                    raise self._refusal(answer)

    def measure(self, what: str) -> Iterator[Message]:
        """Let something be measured inside, and yield what it tells, until it has told all.

        Raises EngineError or CannotRun.
        """
        self._send({"measure": what, "deadline": DEADLINE * self._slowness})
        while True:
            answer = self._receive(SILENCE * self._slowness)
            match answer:
                case {"end": ExitStatus.PASSED}:
                    return
                case {"errnos": list()}:
                    yield answer
                case _:
                    raise self._refusal(answer)

    def begin(self, what: str) -> None:
        """Let the guest be ready to be asked about something; raises EngineError or CannotRun."""
        self._send({"measure": what, "deadline": DEADLINE * self._slowness})
        self.hear()

    def tell(self, message: Message) -> None:
        """Tell the guest something of what it is asked about, a short message."""
        self._send(message)

    def hear(self) -> list[Json]:
        """What the guest answers next to what it is asked; raises EngineError or CannotRun."""
        match answer := self._receive(SILENCE * self._slowness):
            case {"errnos": list(errnos)}:
                return errnos
        raise self._refusal(answer)

    def close(self) -> None:
        """Power the guest off, or end it where it does not; one that was lost is not waited for."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)
        pidfd = os.pidfd_open(self._keeper)
        try:
            deadline = time.monotonic() + (0 if self._is_lost else END_DEADLINE * self._slowness)
            while not select.select([pidfd], [], [], 0)[0]:
                left = deadline - time.monotonic()
                if left <= 0:
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                    break
                # Who cannot write its last words cannot end.
                ready = select.select([pidfd, self._console], [], [], left)[0]
                if self._console in ready and not self._keep_console():
                    break
        finally:
            os.close(pidfd)
        os.waitpid(self._keeper, 0)
        self._channel.close()
        os.close(self._console)

    def __str__(self) -> str:
        return f"the kernel {self.kernel.name}"

    def _read(self, line: Json) -> Event:
        try:
            event = read_event(line)
        except ValueError:
            raise self._nonsense(line) from None
        match event:
            case RunStarted():
                return replace(event, machine=str(self.kernel.machine))
            case HostOpened():
                return replace(event, enter="")  # nobody gets into the guest
        return event

    def _refusal(self, answer: Message) -> EngineError | CannotRun:
        """The error that the guest tells of, or the one for an answer that makes no sense."""
        match answer:
            case {"error": str(message), "hint": str(hint), "status": int(status)}:
                kind = CannotRun if status == ExitStatus.CANNOT_RUN else EngineError
                return kind(f"In {self}: {message}", hint)
        return self._nonsense(answer)

    def _nonsense(self, answer: object) -> EngineError:
        self._is_lost = True
        return EngineError(f"{self} told nonsense: {str(answer)[:200]}", self._console_end())

    def _send(self, message: Message) -> None:
        try:
            self._channel.sendall(encode(message) + b"\n")
        except OSError:
            raise self._death() from None

    def _receive(self, seconds: float) -> Message:
        """The next message; EngineError where none comes in time or the guest is gone."""
        line = self._receive_line(seconds)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._nonsense(line) from None
        if not isinstance(answer, dict):
            raise self._nonsense(line)
        return answer

    def _receive_line(self, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            ready = select.select([self._channel.fileno(), self._console], [], [], left)[0]
            if not ready:
                self._is_lost = True
                raise EngineError(
                    f"{self} hangs: not a word within {seconds:g} seconds.", self._console_end()
                )
            if self._console in ready:
                self._keep_console()
            if self._channel.fileno() in ready:
                data = self._channel.recv(1 << 16)
                if not data:
                    raise self._death()
                if len(self._buffer) > LONGEST_LINE:
                    raise self._nonsense(bytes(self._buffer))
                self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return bytes(line)

    def _death(self) -> EngineError:
        while self._keep_console():
            pass
        return EngineError(f"{self} has died.", self._console_end())

    def _keep_console(self) -> bytes:
        """Take what the console has; empty when there will be nothing more."""
        data = os.read(self._console, 1 << 16)
        self._said = (self._said + data)[-CONSOLE_KEPT:]
        return data

    def _console_end(self) -> str:
        """The last of what the console says; after a panic, what led to it."""
        lines = self._said.decode(errors="replace").replace("\r", "").splitlines()
        panics = [number for number, line in enumerate(lines) if PANIC in line]
        if panics:
            lines = lines[: panics[0] + 1]
        return "\n  ".join(["The end of its console:", *lines[-CONSOLE_SHOWN:]]) if lines else ""


def start(kernel: Kernel, processor: int | None = None, module: str = GUEST) -> Guest:
    """Boot a kernel whose first program is this module; it goes with the calling thread.

    It is pinned to a processor where one is given. Raises CannotRun.
    """
    try:
        channel, theirs = socket.socketpair()
        console, console_theirs = os.pipe()
    except OSError as error:
        raise CannotRun(f"No channel for {kernel.name}: {error.strerror}.") from error
    with contextlib.ExitStack() as ours, theirs, os.fdopen(console_theirs, "wb"):
        ours.callback(channel.close)
        ours.callback(os.close, console)
        program = machine_program(kernel, module, theirs.fileno())
        keeper = start_confined(program, theirs, console_theirs, processor)
        ours.pop_all()
    return Guest(kernel, keeper, channel, console)


def one_processor() -> int:
    """The processor for a guest that has the machine for itself.

    The processes of a UML guest wait for each other: on several processors they take longer.
    """
    return max(os.sched_getaffinity(0))


@contextlib.contextmanager
def booting(kernel: Kernel, processor: int | None = None) -> Iterator[Guest]:
    """A guest that boots, and is powered off at the end of the block; raises CannotRun."""
    guest = start(kernel, processor)
    try:
        yield guest
    finally:
        guest.close()


def machine_program(kernel: Kernel, module: str, channel: int) -> Program:
    """What makes the command of a kernel's machine, whose guest runs this module; CannotRun."""
    guest = (os.path.realpath(sys.executable), "-S", "-m", module)
    variables = {"PYTHONPATH": python_path()}
    if kernel.modules:
        variables[MODULES_VARIABLE] = str(kernel.modules)
    if kernel.machine is Machine.QEMU:
        from labs.engine.kernels.qemu import prepare_qemu

        return prepare_qemu(kernel, guest, variables, QEMU_MEMORY, channel)
    variables[ENTROPY_VARIABLE] = os.urandom(ENTROPY_SIZE).hex()
    return functools.partial(uml_command, kernel, guest, variables, UML_MEMORY, channel)


def python_path() -> str:
    """Where the guest's Python finds the project and the packages that this one has."""
    return os.pathsep.join([ROOT, *(path for path in sys.path if path.endswith("-packages"))])
