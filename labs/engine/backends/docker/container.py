"""A container of a run, seen through its attached stream."""

from __future__ import annotations

import json
import struct
import time
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

from labs.engine.agent import encode
from labs.engine.backends.docker.relay import FIRST, RELAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.agent import Message
    from labs.engine.backends.docker.client import AttachedStream

HEADER = struct.Struct(">BxxxL")  # of each piece of output: which stream, how many bytes
STDERR = 2


class Container:
    """A container's id and name, and the lines of its attached stream."""

    def __init__(self, identity: str, name: str, stream: AttachedStream, deadline: float) -> None:
        self.identity = identity
        self.name = name
        self.errors = ""  # what its first process wrote to standard error
        self.has_ended = False
        self._stream = stream
        self._deadline = deadline
        self._data = bytearray()  # with headers
        self._text = bytearray()  # without
        self._waiting: dict[int, deque[bytes]] = {}
        self._numbers = FIRST

    def new_number(self) -> int:
        """The number of the next agent to be forked."""
        self._numbers += 1
        return self._numbers

    def write(self, number: int, message: Message) -> None:
        """Send a message to an agent, or to the relay; OSError where the container has ended."""
        self._stream.socket.sendall(b"%d %b\n" % (number, encode(message)))

    @cached_property
    def relay_pid(self) -> int:
        """The pid on its host of its relay, which is the first that it says; 0 if it says none."""
        try:
            return find_pid(self.read(RELAY))
        except TimeoutError:  # of its agent, too, nothing will come
            return 0

    @property
    def agent_pid(self) -> int:
        """The pid on its host of its first agent, which is to be greeted yet; 0 if it says none."""
        try:
            return find_pid(self._peek(FIRST))
        except TimeoutError:
            return 0

    def read(self, number: int) -> Message | None:
        """The next message of an agent; None where its channel or the container has ended.

        Raises TimeoutError where none comes before the deadline.
        """
        message = self._peek(number)
        if message is not None:
            self._waiting[number].popleft()
        return message

    def close(self) -> None:
        """End the container, by the end of its stream."""
        self._stream.close()

    def _peek(self, number: int) -> Message | None:
        """What `read` will return next."""
        waiting = self._waiting.setdefault(number, deque())
        end = time.monotonic() + self._deadline
        while not waiting:
            line = self._read_line(end)
            if line is None:
                return None
            name, _, text = line.partition(b" ")
            self._waiting.setdefault(int(name), deque()).append(text)
        if not waiting[0]:
            return None  # an end stays the end
        message: Message = json.loads(waiting[0])
        return message

    def _read_line(self, end: float) -> bytes | None:
        while b"\n" not in self._text:
            self._stream.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self._stream.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.has_ended = True
                return None
            self._data += data
            self._cut_pieces()
        line, _, rest = bytes(self._text).partition(b"\n")
        self._text = bytearray(rest)
        return line

    def _cut_pieces(self) -> None:
        """Take the headers off all pieces that are complete."""
        while len(self._data) >= HEADER.size:
            stream, length = HEADER.unpack_from(self._data)
            piece = bytes(self._data[HEADER.size : HEADER.size + length])
            if len(piece) < length:
                return
            del self._data[: HEADER.size + length]
            if stream == STDERR:
                self.errors += piece.decode(errors="replace")
            else:
                self._text += piece


class ContainerChannel:
    """The channel of one agent of a container, or of its warm parent.

    `explain_end` may raise what is known of a container that has ended.
    """

    def __init__(
        self,
        container: Container,
        explain_end: Callable[[Container], None],
        number: int = FIRST,
    ) -> None:
        self.container = container
        self._explain_end = explain_end
        self._number = number

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """See `Channel.send`; what goes along is the number of a child that is to be forked."""
        try:
            self._write(message, descriptors)
        except TimeoutError:
            raise
        except OSError:
            self._explain_end(self.container)
            raise

    def receive(self) -> Message | None:
        """See `Channel.receive`."""
        message = self.container.read(self._number)
        if message is None and self.container.has_ended:
            self._explain_end(self.container)
        return message

    def _write(self, message: Message, descriptors: Sequence[int]) -> None:
        if descriptors:
            (child,) = descriptors
            order: Message = {"agent": self._number, "child": child, "message": message}
            self.container.write(RELAY, order)
        else:
            self.container.write(self._number, message)

    def close(self) -> None:
        """Leave the stream to the container's other agents; it ends with the last process."""


def find_pid(message: Message | None) -> int:
    """The pid in what somebody says first; 0 where nobody said anything."""
    match message:
        case {"pid": int(pid)}:
            return pid
    return 0
