"""The agent: one real process of a lab, which makes one call at a time for the lab's script.

One file, standard library only, so that it can be carried to wherever the process has to be. The
warm parent is process 1 of a host: it forks the agents, ends them, and says what /proc shows.

A message is one line of JSON on a stream socket; descriptors and the sender's credentials may
travel beside it. End of file means exit.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    Message: TypeAlias = dict[str, Json]

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
SYS_PIDFD_GETFD = 438  # the same number on every architecture (since 5.6)

# High, so that a process's first socket is descriptor 3, as in a program of one's own.
CHANNEL_DESCRIPTOR = 1000
MAXIMUM_DESCRIPTORS = 8
CREDENTIALS_SIZE = 12  # struct ucred: pid, uid, gid

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    """The result of a C library call, or the OSError that its errno says."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2) with one argument."""
    checked(libc.prctl(option, value, 0, 0, 0))


def setfsuid(uid: int) -> int:
    """setfsuid(2): sets the file-system uid and returns the one before; it reports no error."""
    return int(libc.setfsuid(uid))


def pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """pidfd_getfd(2): a copy of another process's descriptor."""
    return checked(libc.syscall(SYS_PIDFD_GETFD, pidfd, descriptor, 0))


def own_uids() -> list[int]:
    """This process's real, effective, saved and file-system uid."""
    # An invalid uid leaves the file-system uid as it is (setfsuid(2)).
    return [*os.getresuid(), setfsuid(-1)]


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
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        sent = socket.send_fds(self.connection, [data], list(descriptors)) if descriptors else 0
        self.connection.sendall(data[sent:])

    def receive(self) -> Message | None:
        """The next message, or None at end of file; its descriptors are in `descriptors`."""
        while b"\n" not in self._buffer:
            data = self._read()
            if not data:
                return None
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        message: Message = json.loads(line)
        return message

    def take_descriptor(self) -> int:
        """The oldest descriptor that has come and was not yet taken."""
        return self.descriptors.pop(0)

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
        self.exit_status: int | None = None

    def serve(self) -> NoReturn:
        """Say who this is, then answer requests; never returns."""
        self.stream.send({"pid": os.getpid(), "uids": list(own_uids())})
        while (request := self.stream.receive()) is not None:
            self.stream.send(self.perform(request))
            if self.exit_status is not None:
                os._exit(self.exit_status)
        os._exit(0)

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
            results.append([value, number, list(own_uids())])
            if number and not request.get("go_on"):
                break
        return {"results": results}

    def _call(self, call: Json, values: list[Json]) -> Json:
        match call:
            case [str(name), list(arguments)]:
                method: Callable[..., Json] | None = getattr(self, f"call_{name}", None)
                if method is not None:
                    return method(*(resolve(argument, values) for argument in arguments))
        raise LookupError("the agent offers no such call")

    # --- sockets, named as in Python's socket module ---

    def call_socket(self, family: int, kind: int, protocol: int = 0) -> Json:
        return self._keep(socket.socket(family, kind, protocol))

    def call_setsockopt(self, descriptor: int, level: int, option: int, value: int | str) -> Json:
        content = value.encode("latin-1") if isinstance(value, str) else value
        self.sockets[descriptor].setsockopt(level, option, content)
        return 0

    def call_getsockopt(self, descriptor: int, level: int, option: int) -> Json:
        return self.sockets[descriptor].getsockopt(level, option)

    def call_bind(self, descriptor: int, address: list[Json]) -> Json:
        self.sockets[descriptor].bind(tuple(address))
        return 0

    def call_listen(self, descriptor: int, backlog: int) -> Json:
        self.sockets[descriptor].listen(backlog)
        return 0

    def call_accept(self, descriptor: int) -> Json:
        connection, peer = self.sockets[descriptor].accept()
        connection.setblocking(True)
        return [self._keep(connection), list(peer[:2])]

    def call_connect(self, descriptor: int, address: list[Json]) -> Json:
        self.sockets[descriptor].connect(tuple(address))
        return 0

    def call_send(self, descriptor: int, text: str) -> Json:
        return self.sockets[descriptor].send(text.encode("latin-1"))

    def call_recv(self, descriptor: int, size: int) -> Json:
        return self.sockets[descriptor].recv(size).decode("latin-1")

    def call_shutdown(self, descriptor: int, how: int) -> Json:
        self.sockets[descriptor].shutdown(how)
        return 0

    def call_getsockname(self, descriptor: int) -> Json:
        return list(self.sockets[descriptor].getsockname()[:2])

    def call_close(self, descriptor: int) -> Json:
        # Not socket.close(), which would take an unknown number for a closed socket.
        os.close(descriptor)
        self.sockets.pop(descriptor).detach()
        return 0

    def call_fchown(self, descriptor: int, uid: int, gid: int) -> Json:
        os.fchown(descriptor, uid, gid)
        return 0

    def call_fstat(self, descriptor: int) -> Json:
        """Answer with st_ino alone, the inode by which sock_diag knows the socket."""
        return os.fstat(descriptor).st_ino

    def call_set_inheritable(self, descriptor: int, inheritable: int) -> Json:
        os.set_inheritable(descriptor, bool(inheritable))
        return 0

    def _keep(self, new: socket.socket) -> int:
        self.sockets[new.fileno()] = new
        return new.fileno()

    # --- the process itself, named as in Python's os module ---

    def call_seteuid(self, uid: int) -> Json:
        os.seteuid(uid)
        stay_readable()
        return 0

    def call_setuid(self, uid: int) -> Json:
        os.setuid(uid)
        stay_readable()
        return 0

    def call_setreuid(self, real: int, effective: int) -> Json:
        os.setreuid(real, effective)
        stay_readable()
        return 0

    def call_setresuid(self, real: int, effective: int, saved: int) -> Json:
        os.setresuid(real, effective, saved)
        stay_readable()
        return 0

    def call_setfsuid(self, uid: int) -> Json:
        previous = setfsuid(uid)
        stay_readable()
        return previous

    def call_fork(self) -> Json:
        """fork(2); the child serves the channel whose descriptor came with the request."""
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
        os.execve(path, arguments, {"PATH": os.defpath, "LANG": "C.UTF-8"})

    def call_exit(self, status: int) -> Json:
        self.exit_status = status
        return status


def resolve(argument: Json, values: list[Json]) -> Json:
    """The argument, or what an earlier call of the batch returned where it refers to one."""
    match argument:
        case {"reference": int(index)}:
            value = values[index]
            # accept() returns the new descriptor and the peer.
            return value[0] if isinstance(value, list) else value
    return argument


def move_channel(descriptor: int) -> socket.socket:
    """The channel's socket at CHANNEL_DESCRIPTOR, out of the way of the lab's own."""
    if descriptor != CHANNEL_DESCRIPTOR:
        os.dup2(descriptor, CHANNEL_DESCRIPTOR, inheritable=False)
        os.close(descriptor)
    return socket.socket(fileno=CHANNEL_DESCRIPTOR)


def stay_readable() -> None:
    """Undo what a change of uid does to a process: /proc would hide it from its warm parent."""
    prctl(PR_SET_DUMPABLE, 1)


def take_user(uid: int) -> None:
    """Become this user for good, its group of the same number and no other groups."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    stay_readable()


class WarmParent:
    """Process 1 of a host: forks agents, ends processes, and reads what /proc says of them."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def serve(self) -> NoReturn:
        """Say who this is, then answer requests; never returns."""
        self.stream.send({"pid": os.getpid()})
        while (request := self.stream.receive()) is not None:
            self.stream.send(answer_to(self._answer, request))
            reap_children()
        os._exit(0)

    def _answer(self, request: Message) -> Message:
        match request:
            case {"do": "start", "name": str(name), "uid": int(uid)}:
                return self._start(name, uid)
            case {"do": "end", "pid": int(pid), "signal": int(number), "timeout": float(seconds)}:
                return {"ended": end_process(pid, number, seconds)}
            case {"do": "observe"}:
                return {"processes": list(observe_processes())}
        raise ValueError(request)

    def _start(self, name: str, uid: int) -> Message:
        channel = self.stream.take_descriptor()
        pid = os.fork()
        if pid == 0:
            self.stream.connection.close()
            agent = Agent(Stream(move_channel(channel)))
            try:
                prctl(PR_SET_NAME, name.encode()[:15])
                take_user(uid)
            except OSError as error:
                agent.stream.send({"errno": error.errno, "doing": f"take uid {uid}"})
                os._exit(1)
            agent.serve()
        os.close(channel)
        return {"pid": pid}


def answer_to(handler: Callable[[Message], Message], request: Message) -> Message:
    """The handler's answer; an OSError as errno and what was being done, a fault as its text."""
    try:
        return handler(request)
    except OSError as error:
        return {"errno": error.errno, "doing": str(request.get("do")), "text": str(error)}
    except Exception as error:
        return {"fault": f"{request.get('do')}: {type(error).__name__}: {error}"}


def reap_children() -> None:
    """Wait for every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_process(pid: int, number: int, timeout: float) -> bool:
    """Send a signal (0: none) and wait until the process is gone; False if it is still there."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if number:
            signal.pidfd_send_signal(pidfd, number)
        # Readable once the process has given up all it held, its sockets included.
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def observe_processes() -> list[Message]:
    """Each process of this pid namespace but the first: uids, capabilities, sockets, options."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                found.append(observe_process(int(entry)))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while it was read
    return found


def observe_process(pid: int) -> Message:
    """What /proc/PID says, and the options of its sockets, read from copies of them."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
    pidfd = os.pidfd_open(pid)
    try:
        sockets: list[Json] = []
        for entry in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{entry}")
            if target.startswith("socket:[") and int(entry) != CHANNEL_DESCRIPTOR:
                sockets.append([int(entry), int(target[8:-1]), *read_options(pidfd, int(entry))])
    finally:
        os.close(pidfd)
    return {
        "pid": pid,
        "uids": [int(uid) for uid in fields["Uid"].split()],
        "capabilities": int(fields["CapEff"], 16),
        "sockets": sockets,
    }


def read_options(pidfd: int, descriptor: int) -> tuple[bool, bool]:
    """SO_REUSEADDR and SO_REUSEPORT of another process's socket."""
    with socket.socket(fileno=pidfd_getfd(pidfd, descriptor)) as copy:
        return (
            bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)),
            bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)),
        )
