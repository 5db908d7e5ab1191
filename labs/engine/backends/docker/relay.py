"""What runs first in a container: a host's warm parent, or the relay of a process.

Standard library only, like the agent. A container's attached stream carries lines `NUMBER MESSAGE`:
the number says which of the container's agents a message is for or from, 0 is the relay itself. A
line without a message says that an agent's channel has ended. The end of the stream is the end of
the container.

A relay can end its agents, which a host's warm parent may not do where they are in another user
namespace, that is not below its own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket

from labs.engine.agent import (
    CHANNEL_DESCRIPTOR,
    Agent,
    Stream,
    answer_to,
    encode,
    move_channel,
)
from labs.engine.system import PR_SET_NAME, prctl, take_user
from labs.engine.warm_parent import WarmParent, end_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from labs.engine.agent import Message

PR_SET_CHILD_SUBREAPER = 36
RELAY, FIRST = 0, 1  # the relay itself, and a container's first agent
STDIN, STDOUT, STDERR = 0, 1, 2


class Pipes(Stream):
    """Messages over this process's standard input and output."""

    def __init__(self) -> None:
        self.descriptors = []
        self.peer_pid = None
        self._buffer = bytearray()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message, as from agent FIRST."""
        assert not descriptors, "a pipe carries none"
        write_line(FIRST, encode(message))

    def _receive_line(self) -> bytes | None:
        line = super()._receive_line()
        return None if line is None else line.partition(b" ")[2]

    def _read(self) -> bytes:
        return os.read(STDIN, 1 << 16)


def write_line(number: int, message: bytes) -> None:
    """Write a message of an agent's, or the end of its channel, to the attached stream."""
    data = b"%d %b\n" % (number, message)
    while data:
        data = data[os.write(STDOUT, data) :]


class Relay:
    """Carries messages between the attached stream and the agents of one container."""

    def __init__(self) -> None:
        self._channels: dict[int, socket.socket] = {}
        self._buffers: dict[int, bytes] = {}

    def serve(self, name: str, uid: int, capabilities: int) -> NoReturn:
        """Fork the agent, then carry messages until the stream or all processes have ended."""
        # A child whose parent has died is to be waited for here, not by process 1 of the host.
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_NAME, b"relay")
        if os.getuid() != uid:
            take_user(uid, capabilities)
        write_line(RELAY, encode({"pid": os.getpid()}))
        children = watch_children()
        self._start_agent(name)
        while True:
            channels = [channel.fileno() for channel in self._channels.values()]
            ready, _, _ = select.select([STDIN, children, *channels], [], [])
            self._carry_out(ready)
            if STDIN in ready:
                self._carry_in()
            if children in ready and not has_children(children):
                os._exit(0)

    def _start_agent(self, name: str) -> None:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            forget_streams()
            prctl(PR_SET_NAME, name.encode()[:15])
            channel = move_channel(theirs.detach())
            # As in a program of one's own, the first socket is descriptor 3.
            os.closerange(STDERR + 1, CHANNEL_DESCRIPTOR)
            Agent(Stream(channel)).serve()
        theirs.close()
        self._keep(FIRST, ours)

    def _keep(self, number: int, channel: socket.socket) -> None:
        self._channels[number] = channel
        self._buffers[number] = b""

    def _carry_in(self) -> None:
        """Give what has come on the attached stream to the agents."""
        data = os.read(STDIN, 1 << 16)
        if not data:
            os._exit(0)
        *lines, self._buffers[RELAY] = (self._buffers.get(RELAY, b"") + data).split(b"\n")
        for line in lines:
            number, _, message = line.partition(b" ")
            if int(number) == RELAY:
                self._obey(json.loads(message))
            else:
                self._send(int(number), message)

    def _send(self, number: int, message: bytes, *descriptors: int) -> None:
        """Send an agent a message; the end of its channel, which was told, is the only answer."""
        channel = self._channels.get(number)
        if channel is None:
            return
        try:
            sent = socket.send_fds(channel, [message + b"\n"], descriptors) if descriptors else 0
            channel.sendall((message + b"\n")[sent:])
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _obey(self, request: Message) -> None:
        """Do what the relay itself is asked for."""
        match request:
            case {"agent": int(agent), "child": int(child), "message": dict(message)}:
                self._hand_over(agent, child, message)
            case {"do": "end"}:
                write_line(RELAY, encode(answer_to(end_agent, request)))

    def _hand_over(self, agent: int, child: int, message: Message) -> None:
        """Send an agent a message with a new channel, for the child that it is to fork."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._send(agent, encode(message), theirs.fileno())
        self._keep(child, ours)

    def _carry_out(self, ready: Sequence[int]) -> None:
        """Give what agents have said to the attached stream."""
        for number, channel in list(self._channels.items()):
            if channel.fileno() not in ready:
                continue
            try:
                data = channel.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                write_line(number, b"")
                channel.close()
                del self._channels[number]
                continue
            *lines, self._buffers[number] = (self._buffers[number] + data).split(b"\n")
            for line in lines:
                write_line(number, line)


def end_agent(request: Message) -> Message:
    """End a process of this container, as a warm parent does."""
    match request:
        case {"pid": int(pid), "signal": int(number), "milliseconds": int(limit)}:
            return {"ended": end_process(pid, number, limit)}
    raise ValueError(request)


def watch_children() -> int:
    """A descriptor that can be read when a child has ended."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(theirs)
    return ours


def has_children(children: int) -> bool:
    """Wait for the children that have ended; whether there are others."""
    os.read(children, 1 << 16)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def forget_streams() -> None:
    """Leave the container's streams to the relay: a program of the lab must not write there."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (STDIN, STDOUT, STDERR):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def main(arguments: Sequence[str]) -> None:
    """Be a host, or a process of this name, uid and capabilities (a mask); never returns."""
    match arguments:
        case ["host"]:
            WarmParent(Pipes()).serve()
        case ["process", name, uid, capabilities]:
            Relay().serve(name, int(uid), int(capabilities))
    raise ValueError(arguments)
