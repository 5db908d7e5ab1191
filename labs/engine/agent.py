"""The agent: one real process of a lab, which makes one call at a time for the lab's script.

Standard library only, as are the modules beside it that it uses, so that all can be carried to
wherever the process has to be.

A message is one line of JSON on a stream socket; descriptors and the sender's credentials may
travel beside it. End of file means exit.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct

from labs.engine.spawned import Spawned, list_children, make_environment, write_text
from labs.engine.system import CLONE_NEWNET, pidfd_getfd, setfsuid, setns, stay_readable, unshare
from labs.engine.worker import (
    Barrier,
    Load,
    Lock,
    Server,
    ask_sleepers,
    drain,
    request,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    Message: TypeAlias = dict[str, Json]

SO_ATTACH_REUSEPORT_CBPF = 51

# High, so that a process's first socket is descriptor 3, as in a program of one's own; and below
# the usual limits on descriptors.
CHANNEL_DESCRIPTOR = 250
MAXIMUM_DESCRIPTORS = 8
CREDENTIALS_SIZE = 12  # struct ucred: pid, uid, gid


def own_uids() -> list[Json]:
    """This process's real, effective, saved and file-system uid."""
    # An invalid uid leaves the file-system uid as it is (setfsuid(2)).
    return [*os.getresuid(), setfsuid(-1)]


def encode(message: Message) -> bytes:
    """A message as one line of JSON, without the line's end."""
    return json.dumps(message, separators=(",", ":")).encode()


class Stream:
    """Messages over a connected stream socket.

    `peer_pid` is the sender's pid as seen from here, where the receiver has set SO_PASSCRED.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.descriptors: list[int] = []
        self.peer_pid: int | None = None
        self._buffer = bytearray()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send one message; raises OSError when the other end is gone."""
        data = encode(message) + b"\n"
        sent = socket.send_fds(self.connection, [data], list(descriptors)) if descriptors else 0
        self.connection.sendall(data[sent:])

    def receive(self) -> Message | None:
        """The next message, or None at end of file; its descriptors are in `descriptors`."""
        line = self._receive_line()
        if line is None:
            return None
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        """Give the other end an end of file, whoever else holds a copy of this one."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def take_descriptor(self) -> int:
        """The oldest descriptor that has come and was not yet taken."""
        return self.descriptors.pop(0)

    def _receive_line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            data = self._read()
            if not data:
                return None
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def _read(self) -> bytes:
        space = socket.CMSG_SPACE(4 * MAXIMUM_DESCRIPTORS) + socket.CMSG_SPACE(CREDENTIALS_SIZE)
        try:
            data, ancillary, _, _ = self.connection.recvmsg(1 << 16, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return b""
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            numbers = memoryview(content[: len(content) // 4 * 4]).cast("i")
            if kind == socket.SCM_RIGHTS:
                self.descriptors.extend(numbers)
            elif kind == socket.SCM_CREDENTIALS:
                self.peer_pid = numbers[0]
        return data


class Agent:
    """Carries out the calls of one process, until its channel ends."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sockets: dict[int, socket.socket] = {}
        self.worker: Server | Load | None = None
        self.lock: Lock | None = None
        self.barrier: Barrier | None = None
        self.spawned = Spawned()
        self.network = -1  # the network namespace that it has left
        self.exit_status: int | None = None

    def serve(self) -> NoReturn:
        """Say who this is, then answer requests; never returns, whatever happens."""
        try:
            self.stream.send({"pid": os.getpid(), "uids": own_uids()})
            while (request := self.stream.receive()) is not None:
                self.stream.send(self.perform(request))
                if self.exit_status is not None:
                    os._exit(self.exit_status)
        finally:
            os._exit(0)  # what forked this process has a loop of its own to go on with

    def perform(self, request: Message) -> Message:
        """Make the calls in order, up to the first that fails unless `go_on` is set.

        Each result is [value, errno, uids]. A call that cannot be made at all (an unknown name, a
        port out of range) is the script's fault, not the kernel's answer.
        """
        calls = request["calls"]
        assert isinstance(calls, list)
        results: list[Json] = []
        values: list[Json] = []
        for call in calls:
            try:
                value, number = self._call(call, values), 0
            except OSError as error:
                if error.errno is None or error.errno <= 0:  # the resolver's own numbers
                    return {"fault": f"{call}: {error}"}
                value, number = None, error.errno
            except Exception as error:
                return {"fault": f"{call}: {type(error).__name__}: {error}"}
            values.append(value)
            results.append([value, number, own_uids()])
            if number and not request.get("go_on"):
                break
        return {"results": results}

    def _call(self, call: Json, values: list[Json]) -> Json:
        match call:
            # `str(name)` would look in vain for str.__match_args__ first, which takes longer than
            # some calls do.
            case [str() as name, list() as arguments]:
                method: Callable[..., Json] | None = getattr(self, f"call_{name}", None)
                if method is not None:
                    return method(*(resolve(argument, values) for argument in arguments))
        raise LookupError("the agent offers no such call")

    # --- sockets, named as in Python's socket module ---

    def call_socket(self, family: int, kind: int, protocol: int = 0) -> Json:
        return self._keep(socket.socket(family, kind, protocol))

    def call_setsockopt(self, descriptor: int, level: int, option: int, value: int | str) -> Json:
        content = value.encode("latin-1") if isinstance(value, str) else value
        self._find(descriptor).setsockopt(level, option, content)
        return 0

    def call_getsockopt(self, descriptor: int, level: int, option: int) -> Json:
        return self._find(descriptor).getsockopt(level, option)

    def call_bind(self, descriptor: int, address: list[Json] | str) -> Json:
        self._find(descriptor).bind(as_address(address))
        return 0

    def call_listen(self, descriptor: int, backlog: int) -> Json:
        self._find(descriptor).listen(backlog)
        return 0

    def call_accept(self, descriptor: int) -> Json:
        connection, peer = self._find(descriptor).accept()
        return [self._keep(connection), list(peer[:2])] if peer else self._keep(connection)

    def call_connect(self, descriptor: int, address: list[Json] | str) -> Json:
        self._find(descriptor).connect(as_address(address))
        return 0

    def call_send(self, descriptor: int, text: str) -> Json:
        return self._find(descriptor).send(text.encode("latin-1"))

    def call_recv(self, descriptor: int, size: int) -> Json:
        return self._find(descriptor).recv(size).decode("latin-1")

    def call_attach_reuseport_cbpf(self, descriptor: int, program: list[int]) -> Json:
        """SO_ATTACH_REUSEPORT_CBPF of socket(7): four numbers an instruction, as in bpf(4)."""
        count = len(program) // 4
        code = ctypes.create_string_buffer(struct.pack("=" + "HBBI" * count, *program))
        filter_program = struct.pack("@HP", count, ctypes.addressof(code))
        listener = self._find(descriptor)
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_program)
        return 0

    def call_sendto(self, descriptor: int, text: str, address: list[Json]) -> Json:
        return self._find(descriptor).sendto(text.encode("latin-1"), as_address(address))

    def call_send_fds(self, descriptor: int, passed: int) -> Json:
        """SCM_RIGHTS of unix(7), one descriptor with one byte."""
        return socket.send_fds(self._find(descriptor), [b"\0"], [self._find(passed).fileno()])

    def call_recv_fds(self, descriptor: int) -> Json:
        _, descriptors, _, _ = socket.recv_fds(self._find(descriptor), 1, 1)
        return self._keep(socket.socket(fileno=descriptors[0]))

    def call_pidfd_getfd(self, pid: int, descriptor: int) -> Json:
        """pidfd_open(2) and pidfd_getfd(2): a copy of another process's socket."""
        pidfd = os.pidfd_open(pid)
        try:
            return self._keep(socket.socket(fileno=pidfd_getfd(pidfd, descriptor)))
        finally:
            os.close(pidfd)

    def call_shutdown(self, descriptor: int, how: int) -> Json:
        self._find(descriptor).shutdown(how)
        return 0

    def call_getsockname(self, descriptor: int) -> Json:
        return list(self._find(descriptor).getsockname()[:2])

    def call_close(self, descriptor: int) -> Json:
        self._find(descriptor).close()
        del self.sockets[descriptor]
        return 0

    def call_fchown(self, descriptor: int, uid: int, gid: int) -> Json:
        os.fchown(self._find(descriptor).fileno(), uid, gid)
        return 0

    def call_fstat(self, descriptor: int) -> Json:
        """Answer with st_ino alone, the inode by which sock_diag knows the socket."""
        return os.fstat(self._find(descriptor).fileno()).st_ino

    def call_set_inheritable(self, descriptor: int, inheritable: int) -> Json:
        os.set_inheritable(self._find(descriptor).fileno(), bool(inheritable))
        return 0

    def _find(self, descriptor: int) -> socket.socket:
        if descriptor not in self.sockets:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.sockets[descriptor]

    def _keep(self, new: socket.socket) -> int:
        self.sockets[new.fileno()] = new
        return new.fileno()

    # --- what it does on its own for a while ---

    def call_serve(self, descriptor: int, way: str, name: str, pause: int) -> Json:
        listener = self._find(descriptor)
        self._work(lambda: Server(listener, way, name, pause, self.lock, self.barrier))
        return 0

    def call_make_lock(self) -> Json:
        """What servers that wait by `lock` share: this process, and those that it forks then."""
        self.lock = Lock()
        return 0

    def call_make_barrier(self, count: int) -> Json:
        """Where servers wait for each other: those that this process forks then."""
        self.barrier = Barrier(count)
        return 0

    def call_load(self, address: list[Json], count: int, clients: int, words: str) -> Json:
        self._work(lambda: Load(as_end(address), count, clients, words))
        return 0

    def call_wait_for_requests(self, count: int) -> Json:
        if not isinstance(self.worker, Load):
            raise TypeError("it makes no requests")
        return int(self.worker.wait_for(count))

    def call_drain(self, descriptor: int, name: str) -> Json:
        return drain(self._find(descriptor), name)

    def call_stop(self) -> Json:
        """End what it does, and say what came of it."""
        if self.worker is None:
            raise LookupError("it does nothing of its own")
        worker, self.worker = self.worker, None
        return dict(worker.stop())

    def call_request(self, address: list[Json], count: int, first_port: int, words: str) -> Json:
        return dict(request(as_end(address), count, first_port, words))

    def call_request_from_sleep(
        self, address: list[Json], count: int, pids: list[int], words: str
    ) -> Json:
        return dict(ask_sleepers(as_end(address), count, pids, words))

    def _work(self, start: Callable[[], Server | Load]) -> None:
        if self.worker is not None:
            raise RuntimeError("one thing at a time")
        self.worker = start()

    # --- the process itself, named as in Python's os module ---

    def call_seteuid(self, uid: int) -> Json:
        return self._change(os.seteuid, uid)

    def call_setuid(self, uid: int) -> Json:
        return self._change(os.setuid, uid)

    def call_setreuid(self, real: int, effective: int) -> Json:
        return self._change(os.setreuid, real, effective)

    def call_setresuid(self, real: int, effective: int, saved: int) -> Json:
        return self._change(os.setresuid, real, effective, saved)

    def call_setfsuid(self, uid: int) -> Json:
        return self._change(setfsuid, uid)

    def _change(self, change: Callable[..., int | None], *uids: int) -> Json:
        previous = change(*uids)
        stay_readable()
        return previous or 0

    def call_fork(self) -> Json:
        """fork(2); the child serves the channel whose descriptor came with the request."""
        if self.worker is not None:
            raise RuntimeError("a process that works has a thread, which fork() would not copy")
        channel = self.stream.take_descriptor()
        pid = os.fork()
        if pid == 0:
            self.stream.connection.close()
            self.stream = Stream(move_channel(channel))
            self.serve()
        os.close(channel)
        return pid

    def call_exec(self, path: str, arguments: list[str]) -> Json:
        """execve(2): the channel closes where it succeeds, and that is its only answer."""
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execve(path, arguments, make_environment())
        finally:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it

    # --- programs that it starts ---

    def call_posix_spawn(self, program: str, arguments: list[str]) -> Json:
        return self.spawned.start(program, arguments)

    def call_kill(self, pid: int, number: int) -> Json:
        os.kill(pid, number)
        return 0

    def call_read_output(self, pid: int) -> Json:
        """What a program that it started has written, in the end."""
        return self.spawned.read_output(pid)

    def call_waitpid(self, pid: int) -> Json:
        """The status of a program that it started; None while it runs (WNOHANG)."""
        return self.spawned.find_status(pid)

    def call_read_children(self, pid: int) -> Json:
        """The pids of a process's children, with spaces between them."""
        return " ".join(map(str, list_children(pid)))

    def call_read_status(self, pid: int) -> Json:
        """What proc_pid_status(5) says of a process."""
        with open(f"/proc/{pid}/status", errors="backslashreplace") as file:
            return file.read()

    def call_write_text(self, path: str, text: str) -> Json:
        write_text(path, text)
        return 0

    def call_sched_setaffinity(self, processor: int) -> Json:
        os.sched_setaffinity(0, [processor])
        return 0

    def call_sched_getaffinity(self) -> Json:
        """Which processors it may run on, as a mask."""
        return sum(1 << processor for processor in os.sched_getaffinity(0))

    def call_unshare(self, flags: int) -> Json:
        """unshare(2); the network namespace before is kept, for `setns`."""
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            unshare(flags)
        except OSError:
            os.close(before)
            raise
        self.network = before
        return 0

    def call_setns(self, pid: int = 0) -> Json:
        """setns(2): back to the network namespace that the process left, or into another's."""
        target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) if pid else self.network
        setns(target, CLONE_NEWNET)
        os.close(target)
        return 0

    def call_exit(self, status: int) -> Json:
        self.exit_status = status
        return status


def resolve(argument: Json, values: list[Json]) -> Json:
    """The argument, or what an earlier call of the batch returned where it refers to one."""
    match argument:
        case {"reference": int() as index}:
            value = values[index]
            # accept() returns the new descriptor and the peer.
            return value[0] if isinstance(value, list) else value
    return argument


def as_address(address: list[Json] | str) -> tuple[Json, ...] | str:
    """An address as Python's socket module has it: a pair, or a text for a UNIX socket."""
    return address if isinstance(address, str) else tuple(address)


def as_end(address: list[Json]) -> tuple[str, int]:
    """An address and a port; ValueError for anything else."""
    match address:
        case [str(host), int(port)]:
            return host, port
    raise ValueError(address)


def move_channel(descriptor: int) -> socket.socket:
    """The channel's socket at CHANNEL_DESCRIPTOR, out of the way of the lab's own."""
    if descriptor != CHANNEL_DESCRIPTOR:
        os.dup2(descriptor, CHANNEL_DESCRIPTOR, inheritable=False)
        os.close(descriptor)
    return socket.socket(fileno=CHANNEL_DESCRIPTOR)


def answer_to(handler: Callable[[Message], Message], request: Message) -> Message:
    """The handler's answer; an OSError as errno and what was being done, a fault as its text."""
    try:
        return handler(request)
    except OSError as error:
        return {"errno": error.errno, "doing": str(request["do"])}
    except Exception as error:
        return {"fault": f"{request['do']}: {type(error).__name__}: {error}"}


def take_steps(stream: Stream, *steps: tuple[str, Callable[[], None]]) -> None:
    """Take the steps of a start, each with its name; one that fails is told and is the end."""
    for doing, step in steps:
        try:
            step()
        except OSError as error:
            stream.send({"errno": error.errno, "doing": doing})
            os._exit(1)
