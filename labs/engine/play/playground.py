"""The playground: the process that holds its hosts, and ends with the last who has joined it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from typing import TYPE_CHECKING, NoReturn

from labs.engine.agent import Stream
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import BindlabError, EngineError
from labs.engine.evidence import gather
from labs.engine.play.folder import PREFIX
from labs.engine.play.furnishing import furnish
from labs.engine.record import to_json
from labs.engine.system import stand_alone

if TYPE_CHECKING:
    from labs.engine.agent import Message
    from labs.engine.backends.namespaces.backend import NamespacesBackend
    from labs.engine.model import Evidence
    from labs.engine.play.folder import Folder
    from labs.engine.play.ground import Plan

DEADLINE = 10.0  # seconds that one who has joined may take to read or write a message
INTERVAL = 0.02  # seconds until it is tried again to close, while somebody looks for a playground


def start_playground(plan: Plan, folder: Folder) -> Stream:
    """Start the process, with the first connection to it; what it could not do it answers there."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        run_playground(plan, folder, theirs)
    theirs.close()
    ours.settimeout(DEADLINE)
    return Stream(ours)


def run_playground(plan: Plan, folder: Folder, first: socket.socket) -> NoReturn:
    """What the process does from its fork to its end; never returns."""
    stream = Stream(first)
    try:
        part(folder.descriptor, first.fileno())
        with open_namespaces() as backend:
            for host in plan.hosts:
                backend.open_host(host)
            Playground(plan, backend, folder, stream).serve()
    except BindlabError as error:
        with contextlib.suppress(OSError):
            stream.send(refusal(error))
    except Exception as error:
        with contextlib.suppress(OSError):
            stream.send(refusal(EngineError(f"The playground has failed: {error!r}")))
    finally:
        os._exit(0)


def part(*kept: int) -> None:
    """Be a process of its own session, that holds nothing of the one that forked it."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stand_alone(*kept)


def refusal(error: BindlabError) -> Message:
    """An error as an answer."""
    return {"refused": int(error.status), "message": error.message, "hint": error.hint}


class Playground:
    """Answers those who have joined, until there are none."""

    def __init__(
        self, plan: Plan, backend: NamespacesBackend, folder: Folder, first: Stream
    ) -> None:
        self._plan = plan
        self._backend = backend
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        pids = {host.name: backend.first_process(host.name) for host in plan.hosts}
        self._ground = plan.ground(pids)
        # An observation says that all is wired.
        for host in plan.hosts:
            backend.observe(host.name)
        furnish(self._ground)
        self._visitors = 0
        self._admit(first)

    def serve(self) -> None:
        """Answer until the last has left, and nobody else has come."""
        name = f"{PREFIX}{os.getpid()}"
        with self._folder.listen(name) as listener:
            self._selector.register(listener, selectors.EVENT_READ)
            try:
                while not (self._visitors == 0 and self._has_closed(listener, name)):
                    for key, _ in self._selector.select(None if self._visitors else INTERVAL):
                        self._heed(listener, key.data)
            finally:
                self._folder.remove(name)

    def _has_closed(self, listener: socket.socket, name: str) -> bool:
        """Whether nobody can join any more; not while somebody looks for what is open."""
        with self._folder.locked_at_once() as is_mine:
            if not is_mine:
                return False
            listener.setblocking(False)
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                self._folder.remove(name)
                return True
            finally:
                listener.setblocking(True)
            self._admit(Stream(connection))
            return False

    def _heed(self, listener: socket.socket, visitor: Stream | None) -> None:
        if visitor is None:
            connection, _ = listener.accept()
            self._admit(Stream(connection))
            return
        try:
            request = visitor.receive()
            if request is not None:
                visitor.send(self._answer(request))
                return
        except (OSError, ValueError):
            pass  # it has left in the middle of a message
        self._selector.unregister(visitor.connection)
        visitor.close()
        self._visitors -= 1

    def _admit(self, visitor: Stream) -> None:
        visitor.connection.settimeout(DEADLINE)
        self._selector.register(visitor.connection, selectors.EVENT_READ, visitor)
        self._visitors += 1

    def _answer(self, request: Message) -> Message:
        try:
            match request:
                case {"do": "describe"}:
                    return {"ground": to_json(self._ground)}
                case {"do": "observe", "host": str(host)}:
                    return {"evidence": to_json(self._observe(host))}
            raise EngineError(f"The playground does not know what this is: {request}")
        except BindlabError as error:
            return refusal(error)

    def _observe(self, host: str) -> Evidence:
        """The evidence of a host, with its processes by their commands, users and pids."""
        observation = self._backend.observe(host)
        user_of = self._plan.layout.user
        names = {
            process.pid: f"{process.command} {user_of(process.credentials.effective)}/{process.pid}"
            for process in observation.processes
        }
        return gather(host, observation, names, user_of)
