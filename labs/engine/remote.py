"""What a script drives: hosts, processes and their sockets, all of them elsewhere.

A remote process offers the names of Python's `socket` and `os` modules, so that a lab reads like
the program that it stands for. A call that the kernel refuses raises CallError, an OSError.
"""

import socket as socket_module
from collections.abc import Sequence
from signal import SIGKILL

from labs.engine.answers import Answers, Served, of_load
from labs.engine.errors import LabError
from labs.engine.model import Address, Argument, Call, CallResult, ProcessRow, Reference, SocketRow
from labs.engine.plans import HostPlan, OpenedHost, Publication
from labs.engine.programs import Child, HasPid, Program
from labs.engine.session import CallError, Session
from labs.engine.strace import CLONE_NEWNET

ANY = "0.0.0.0"
BACKLOG = 128
HTTP_GET = "GET / HTTP/1.0\r\n\r\n"  # after whose answer the server closes


class Host:
    """A network namespace with its own addresses.

    `machine_port` is the port of the machine's under which a port of the host is published, 0 where
    none is.
    """

    def __init__(self, session: Session, plan: HostPlan, opened: OpenedHost) -> None:
        self._session = session
        self.name = plan.name
        self.ipv4 = plan.ipv4
        self.ipv6 = plan.ipv6
        self.machine_port = opened.machine_port

    def process(
        self,
        name: str,
        *,
        user: str,
        capabilities: Sequence[str] = (),
        outer: str = "",
        program: str = "",
    ) -> "Process":
        """Start a process that takes its user before it makes a socket.

        It has the capabilities(7) that are named and no others, root too. With an `outer` user it
        is in a user namespace of its own: its uid there is the user's, and to the rest of the run
        it is the outer one. Other processes may have the same outer user. It can `spawn` the
        `program` of this name; where there is none, the step is skipped.
        """
        pid = self._session.start_process(name, self.name, user, capabilities, outer, program)
        return Process(self._session, name, self, pid)

    def show(self) -> None:
        """Let the open step's evidence show this host, where nothing is called."""
        self._session.show_host(self.name)

    def sockets(self, port: int) -> list[SocketRow]:
        """What sock_diag says of this host now: its sockets with this local port."""
        rows = self._session.observe(self.name).sockets
        return [row for row in rows if row.local[1] == port]

    def processes(self) -> list[ProcessRow]:
        """What /proc says of this host now: its processes, in the order of their pids."""
        rows = self._session.observe(self.name).processes
        return sorted(rows, key=lambda row: row.pid)

    def holders(self, port: int) -> list[ProcessRow]:
        """The processes that hold a listener on the port."""
        inodes = {*self.queues(port)}
        return [row for row in self.processes() if inodes & {held.inode for held in row.sockets}]

    def count(self, port: int, state: str) -> int:
        """How many of its sockets with this local port are in a state."""
        return sum(row.state == state for row in self.sockets(port))

    def queues(self, port: int) -> dict[int, int]:
        """How many connections wait at each listener on the port, by its inode."""
        listeners = [row for row in self.sockets(port) if row.state == "LISTEN"]
        return {row.inode: row.receive_queue for row in listeners}


class Process:
    """A real process on a host, under one user, driven call by call; `pid` is that there."""

    def __init__(self, session: Session, name: str, host: Host, pid: int) -> None:
        self._session = session
        self.name = name
        self.host = host
        self.pid = pid

    def socket(
        self,
        family: int = socket_module.AF_INET,
        kind: int = socket_module.SOCK_STREAM,
        protocol: int = 0,
    ) -> "Socket":
        """socket(2)."""
        (result,) = self.perform(call("socket", family, kind, protocol))
        return Socket(self, number(result))

    def bind(
        self,
        port: int,
        *options: int,
        address: str = ANY,
        kind: int = socket_module.SOCK_STREAM,
    ) -> "Socket":
        """socket(), setsockopt() of each of these options of SOL_SOCKET to 1, and bind()."""
        new = self.socket(kind=kind)
        for option in options:
            new.setsockopt(socket_module.SOL_SOCKET, option, 1)
        new.bind((address, port))
        return new

    def listen(
        self,
        port: int,
        *,
        address: str = ANY,
        reuseport: bool = False,
        reuseaddr: bool = False,
        backlog: int = BACKLOG,
    ) -> "Socket":
        """socket(), setsockopt(), bind() and listen(), as a TCP server starts.

        Where one is refused, the socket is closed again, as at the end of such a server.
        """
        new = Reference(0)
        options = [
            call("setsockopt", new, socket_module.SOL_SOCKET, option, 1)
            for option, wanted in (
                (socket_module.SO_REUSEADDR, reuseaddr),
                (socket_module.SO_REUSEPORT, reuseport),
            )
            if wanted
        ]
        return self._open(
            address, *options, call("bind", new, (address, port)), call("listen", new, backlog)
        )

    def connect(self, address: Address) -> "Socket":
        """socket() and connect(), as a TCP client starts; closed again where it is refused."""
        return self._open(address[0], call("connect", Reference(0), address))

    def connect_many(self, address: Address, count: int) -> "list[Socket]":
        """The same, `count` times over, sent in one message."""
        calls: list[Call] = []
        for _ in range(count):
            new = Reference(len(calls))
            calls += [call("socket", *stream_socket(address[0])), call("connect", new, address)]
        results = self.perform(*calls)
        return [Socket(self, number(result)) for result in results[::2]]

    def request(
        self, address: Address, count: int = 1, *, first_port: int = 0, words: str = ""
    ) -> Answers:
        """Connect so many times, one after the other, and read what comes until the end.

        With a `first_port` each connection comes from the next port, counted from there. The client
        says the `words` first, such as HTTP_GET, whose answer then says in its body who gave it.
        """
        answers = Answers.none()
        while answers.asked < count:
            left, port = count - answers.asked, first_port and first_port + answers.asked
            (result,) = self.perform(call("request", address, left, port, words))
            more = Answers.of(result)
            if not more.asked:
                raise LabError(f"{self.name} has made {answers.asked} of {count} requests.")
            answers = answers.joined(more)
        return answers

    def request_each(self, address: Address, ports: Sequence[int]) -> "list[str]":
        """Connect once from each of these ports, in one message: who answered each."""
        results = self.perform(*(call("request", address, 1, port, "") for port in ports))
        return [next(iter(Answers.of(result).by), "") for result in results]

    def request_from_sleep(
        self, address: Address, count: int, waiting: Sequence[HasPid], *, words: str = ""
    ) -> Answers:
        """The same as `request`, each time only when all of the waiting processes sleep."""
        pids = tuple(process.pid for process in waiting)
        (result,) = self.perform(call("request_from_sleep", address, count, pids, words))
        return Answers.of(result)

    def load(self, address: Address, count: int, *, clients: int, words: str = "") -> None:
        """Let so many clients side by side make requests, until `stop_load` or `count` in all."""
        self.perform(call("load", address, count, clients, words))

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many more of the load's requests have come to their end, or all have.

        LabError where they do not in time: then nobody asks any more.
        """
        (result,) = self.perform(call("wait_for_requests", count))
        if not number(result):
            (stopped,) = self.perform(call("stop"))  # raises what has stopped them, if anything has
            raise LabError(f"{self.name} has not made {count} requests in time: {stopped.value}.")

    def stop_load(self, *, after: int) -> Answers:
        """End the load when so many more requests have come to their end: what came of it."""
        self.wait_for_requests(after)
        (result,) = self.perform(call("stop"))
        return of_load(result, self._session.now)

    def stop_serving(self) -> Served:
        """End what `Socket.serve` began: what it did."""
        (result,) = self.perform(call("stop"))
        return Served.of(result)

    def make_lock(self) -> None:
        """The lock of servers that wait by `lock`: this process, and those that it forks then."""
        self.perform(call("make_lock"))

    def make_barrier(self, count: int) -> None:
        """Let servers that it forks then wait for each other between wake-up and accept()."""
        self.perform(call("make_barrier", count))

    def sched_setaffinity(self, processor: int) -> None:
        """sched_setaffinity(2): from now on this processor alone."""
        self.perform(call("sched_setaffinity", processor))

    def sched_getaffinity(self) -> list[int]:
        """sched_getaffinity(2): the processors that it may run on."""
        (result,) = self.perform(call("sched_getaffinity"))
        mask = number(result)
        return [processor for processor in range(mask.bit_length()) if mask >> processor & 1]

    def pidfd_getfd(self, socket: "Socket") -> "Socket":
        """pidfd_getfd(2) (since 5.6): a copy of another process's socket."""
        (result,) = self.perform(call("pidfd_getfd", socket.process.pid, socket.descriptor))
        return Socket(self, number(result))

    def fork(self, name: str) -> "Process":
        """fork(2): the child inherits the sockets; ask for them with `inherited`."""
        pid = self._session.fork_process(self.name, name)
        return Process(self._session, name, self.host, pid)

    def fork_holders(self, socket: "Socket", name: str, count: int) -> "list[Socket]":
        """Fork so many children, NAME-1 and on, that hold a socket: the copy of each."""
        children = [self.fork(f"{name}-{number}") for number in range(1, count + 1)]
        return [child.inherited(socket) for child in children]

    def inherited(self, socket: "Socket") -> "Socket":
        """This process's copy of a socket that its parent had when it forked."""
        return Socket(self, socket.descriptor)

    def exec(self, path: str, *arguments: str) -> None:
        """execve(2): the program takes this process's place, with its inheritable sockets."""
        self.perform(call("exec", path, (path, *arguments)))

    def write_text(self, path: str, text: str) -> None:
        """Write a file anew, below /tmp: a program's configuration."""
        self.perform(call("write_text", path, text))

    def spawn(self, name: str, program: str, *arguments: str) -> Program:
        """posix_spawn(3): a program, as a child of this process, which goes on.

        `name` is what the run calls it.
        """
        (result,) = self.perform(call("posix_spawn", program, arguments))
        return Program(self._session, self, name, number(result))

    def list_children(self, parent: HasPid) -> list[int]:
        """The pids of a process's children, as /proc has them now; no call of the lab's."""
        pids = self._session.consult(self.name, call("read_children", parent.pid))
        return [int(pid) for pid in str(pids).split()]

    def catches(self, target: HasPid, signal: int) -> bool:
        """Whether a process has a handler for a signal (SigCgt in /proc); no call of the lab's."""
        return bool(self._read_mask(target, "SigCgt") >> (signal - 1) & 1)

    def has_pending(self, target: HasPid, signal: int) -> bool:
        """Whether a signal waits for a process (ShdPnd in /proc); no call of the lab's."""
        return bool(self._read_mask(target, "ShdPnd") >> (signal - 1) & 1)

    def _read_mask(self, target: HasPid, field: str) -> int:
        status = str(self._session.consult(self.name, call("read_status", target.pid)))
        return int(status.partition(f"\n{field}:")[2].split()[0], 16)

    def name_descendant(self, name: str, pid: int) -> Child:
        """Name a process that came of a program of its, and is of the same user."""
        self._session.introduce(pid, name, self.name)
        return Child(name, pid)

    def send_signal(self, target: HasPid, signal: int) -> None:
        """kill(2): send a signal to a process of its host."""
        self.perform(call("kill", target.pid, signal))

    def unshare_network(self) -> None:
        """unshare(2): a new network namespace for what the process makes from now on."""
        self.perform(call("unshare", CLONE_NEWNET))

    def return_to_network(self) -> None:
        """setns(2): back to the network namespace that it left so."""
        self.perform(call("setns"))

    def enter_network(self, pid: int) -> None:
        """setns(2): into the network namespace of this process of its host, by its pid."""
        self.perform(call("setns", pid))

    def exit(self, status: int = 0) -> None:
        """exit(2): the process ends by itself; returns when it is gone."""
        self.perform(call("exit", status))
        self._session.end_process(self.name, 0)

    def kill(self, signal: int = SIGKILL) -> None:
        """End the process by a signal from outside; returns when it is gone."""
        self._session.end_process(self.name, signal)

    def seteuid(self, user: str | int) -> None:
        """seteuid(2)."""
        self.perform(call("seteuid", self.uid(user)))

    def setuid(self, user: str | int) -> None:
        """setuid(2)."""
        self.perform(call("setuid", self.uid(user)))

    def setreuid(self, real: str | int, effective: str | int) -> None:
        """setreuid(2)."""
        self.perform(call("setreuid", self.uid(real), self.uid(effective)))

    def setresuid(self, real: str | int, effective: str | int, saved: str | int) -> None:
        """setresuid(2)."""
        self.perform(call("setresuid", *(self.uid(user) for user in (real, effective, saved))))

    def setfsuid(self, user: str | int) -> None:
        """setfsuid(2), which the kernel never answers with an error."""
        self.perform(call("setfsuid", self.uid(user)))

    def perform(self, *calls: Call) -> list[CallResult]:
        """Make calls in one message; CallError for the first that is refused, the last made."""
        return list(self._session.perform(self.name, calls))

    def _open(self, address: str, *calls: Call) -> "Socket":
        try:
            results = self.perform(call("socket", *stream_socket(address)), *calls)
        except CallError as error:
            self.perform(*(call("close", number(result)) for result in error.results[:1]))
            raise
        return Socket(self, number(results[0]))

    def uid(self, user: str | int) -> int:
        """The uid of a user by name; a number stands for itself."""
        return user if isinstance(user, int) else self._session.layout.uid(user)


class Socket:
    """A socket of a remote process, by its descriptor there."""

    def __init__(self, process: Process, descriptor: int) -> None:
        self.process = process
        self.descriptor = descriptor

    def setsockopt(self, level: int, option: int, value: int | str) -> None:
        """setsockopt(2) with a number, or with bytes as a text (Latin-1)."""
        self._perform("setsockopt", level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        """getsockopt(2) of a number."""
        return number(self._perform("getsockopt", level, option))

    def bind(self, address: Address | str) -> None:
        """bind(2); a text is the name of a UNIX socket."""
        self._perform("bind", address)

    def listen(self, backlog: int = BACKLOG) -> None:
        """listen(2)."""
        self._perform("listen", backlog)

    def accept(self) -> "Socket":
        """accept(2): waits for a connection."""
        return Socket(self.process, number(self._perform("accept")))

    def accept_many(self, count: int) -> "list[Socket]":
        """The same, `count` times over, sent in one message."""
        calls = [call("accept", self.descriptor)] * count
        results = self.process.perform(*calls) if calls else []
        return [Socket(self.process, number(result)) for result in results]

    def connect(self, address: Address | str) -> None:
        """connect(2); a text is the name of a UNIX socket."""
        self._perform("connect", address)

    def send(self, text: str) -> int:
        """send(2): the number of bytes taken; each character is one byte (Latin-1)."""
        return number(self._perform("send", text))

    def recv(self, size: int) -> str:
        """recv(2): waits for data; empty at the end of the stream."""
        return str(self._perform("recv", size).value)

    def drain_and_close(self) -> int:
        """Answer what waits, until nothing does, and close at once; how many were answered."""
        drain = call("drain", self.descriptor, self.process.name)
        count, _ = self.process.perform(drain, call("close", self.descriptor))
        return number(count)

    def send_fds(self, passed: "Socket") -> None:
        """SCM_RIGHTS of unix(7): send a socket of this process's over this UNIX socket."""
        self._perform("send_fds", passed.descriptor)

    def recv_fds(self) -> "Socket":
        """Take a socket that was sent so: waits for it."""
        return Socket(self.process, number(self._perform("recv_fds")))

    def attach_reuseport_cbpf(self, *instructions: tuple[int, int, int, int]) -> None:
        """Let a program choose the member of its reuseport group: SO_ATTACH_REUSEPORT_CBPF.

        Each instruction is its code, two jumps and a number (struct sock_filter).
        """
        flat = tuple(part for instruction in instructions for part in instruction)
        self._perform("attach_reuseport_cbpf", flat)

    def sendto(self, text: str, address: Address) -> int:
        """sendto(2): the number of bytes taken; each character is one byte (Latin-1)."""
        return number(self._perform("sendto", text, address))

    def serve(self, way: str = "epoll", *, pause: int = 0) -> None:
        """Let the process accept connections, answer each with its name and close it.

        It waits by `accept` in a blocking accept(), by `epoll` in an epoll instance of its own, by
        `exclusive` in one with EPOLLEXCLUSIVE, by `lock` in one while it has `make_lock`'s.
        Before accept() it is busy with something else for `pause` microseconds.
        `Process.stop_serving` ends it; by `accept` and `lock` that shuts the listener down.
        """
        self._perform("serve", way, self.process.name, pause)

    def shutdown(self, how: int) -> None:
        """shutdown(2)."""
        self._perform("shutdown", how)

    def close(self) -> None:
        """close(2)."""
        self._perform("close")

    def getsockname(self) -> Address:
        """getsockname(2)."""
        value = self._perform("getsockname").value
        assert isinstance(value, tuple)
        return value

    def inode(self) -> int:
        """fstat(2): the socket's inode number, by which sock_diag knows it."""
        return number(self._perform("fstat"))

    def fchown(self, user: str | int) -> None:
        """fchown(2) to this user, the group as it is."""
        self._perform("fchown", self.process.uid(user), -1)

    def set_inheritable(self, inheritable: bool) -> None:
        """Whether the socket outlives exec (FD_CLOEXEC of fcntl(2), the other way round)."""
        self._perform("set_inheritable", int(inheritable))

    def _perform(self, name: str, *arguments: Argument) -> CallResult:
        (result,) = self.process.perform(call(name, self.descriptor, *arguments))
        return result


def close_all(sockets: Sequence[Socket]) -> None:
    """close(2) of each, in one message for each process."""
    processes = {socket.process.name: socket.process for socket in sockets}
    for process in processes.values():
        owned = [socket for socket in sockets if socket.process.name == process.name]
        process.perform(*(call("close", socket.descriptor) for socket in owned))


def publication(port: int, *, machine_port: int = 0, held: bool = False) -> Publication:
    """What `Run.host` is to publish: this port of the host's, at the machine's 127.0.0.1.

    0 is any port of the machine's. Where that is `held`, bindlab listens on it first, as any
    program of the machine might.
    """
    return Publication(port, machine_port, held)


def call(name: str, *arguments: Argument) -> Call:
    """A call by name, for `Process.perform`."""
    return Call(name, arguments)


def number(result: CallResult) -> int:
    """The number that a call returned."""
    assert isinstance(result.value, int)
    return result.value


def stream_socket(address: str) -> tuple[int, int, int]:
    """The arguments of socket(2) for TCP over the family of this address."""
    family = socket_module.AF_INET6 if ":" in address else socket_module.AF_INET
    return int(family), int(socket_module.SOCK_STREAM), 0
