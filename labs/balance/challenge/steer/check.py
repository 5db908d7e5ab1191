"""The check of steer: the kernel chooses between two listeners by the client's port."""

import struct
from collections import Counter
from collections.abc import Mapping
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET

from labs.engine.challenge import (
    CallError,
    Host,
    Process,
    Program,
    Socket,
    Trial,
    challenge,
    exactly,
)

WIDTH = 100  # ports of the range
LISTENERS = 2
SECONDS = 3  # that a client waits
CANARY, STABLE = "canary", "stable"

# Where clients come from: as distances from the first port of the range, its ends among them, and
# what is outside of it. A hash gets all 16 right in one of 65,536 runs, and the ends are asked of
# each program.
INSIDE = (0, 1, 17, 31, 50, 73, 98, 99)
OUTSIDE = (-512, -256, -64, -1, 100, 164, 356, 612)


@challenge(
    "steer",
    title="Let the kernel choose the listener by the client's port",
    hints=(
        (
            "The lab has steps in which a program chooses the listener. It is asked when a "
            "connection comes, before any process of yours knows of it."
        ),
        (
            "SO_ATTACH_REUSEPORT_CBPF (51) takes a struct sock_fprog: a program of classic BPF, "
            "whose answer is a listener's place, in the order of their listen(). The client's port "
            "is at SKF_NET_OFF + 20, as in labs/balance/lab.py."
        ),
        (
            "Load the port (0x28). Jump if it is greater than or equal to FIRST (0x35), jump if it "
            "is greater than LAST (0x25), each with the number of instructions to skip. Then two "
            "answers: return 0 or 1 (0x06)."
        ),
    ),
    advice={
        "members": "Port {port} has {count} listeners. It takes two, both with SO_REUSEPORT set "
        "before bind().",
        "mixed": "Connections from inside and outside the range are in one queue. Without a "
        "program the hash chooses; and to look at the port after accept() is too late, for by "
        "then the connection is in its queue. If you have a program, BPF loads numbers in the "
        "host's order: htons() is wrong here.",
        "same": "All connections came to one listener, from whatever port. Your program always "
        "answers the same: what it loads is not the client's port. Offset 0 is behind the TCP "
        "header, and a load from beyond the packet ends the program with 0.",
        "edge": "Only ports at the ends of the range are wrong: {ports}. FIRST and LAST belong to "
        "it.",
        "full": "No connection could be made from port {client}: there is no room in the queues.",
        "swapped": "The kernel keeps the two kinds of clients apart, but the answers are the wrong "
        "way round: the program's answer 0 means the listener that was the first to listen().",
        "silent": "A client from port {client} was answered '{answer}', not '{wanted}'.",
    },
)
def steer(trial: Trial) -> None:
    """Clients connect from chosen ports while the program is stopped; then it answers."""
    port, first = trial.port(8080), trial.port(20_000)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")
    program = start(trial, server, port, first)
    ports = trial.shuffled(first + distance for distance in (*INSIDE, *OUTSIDE))
    waiting = connect_all(trial, program, client, port, first, ports)
    answer_all(trial, program, waiting, port, first)


def start(trial: Trial, server: Host, port: int, first: int) -> Program:
    """Start the program: two listeners."""
    with trial.step(
        "Your program starts, and has two listeners on port {port}",
        expect=exactly(LISTENERS, "listeners"),
        why="Two sockets, two queues: a reuseport group.",
        port=port,
    ) as step:
        program = trial.start("steer", server, port, first, first + WIDTH - 1, user="alice")
        trial.settle(lambda: len(server.queues(port)) == LISTENERS)
        # It may attach its program after that: it has when it sleeps.
        trial.settle(lambda: trial.are_asleep(server, trial.family(program)), seconds=2)
        count = len(server.queues(port))
        step.advise("members", port=port, count=count)
        step.measured(count)
    return program


def connect_all(
    trial: Trial, program: Program, client: Process, port: int, first: int, ports: list[int]
) -> dict[int, Socket]:
    """While the program is stopped, clients connect: the kernel alone chooses. Their sockets."""
    server = program.host
    sockets: dict[int, Socket] = {}
    found: dict[int, int] = {}
    with trial.step(
        "It is stopped, and {count} clients connect, half of them from ports {first} to {last}",
        expect=exactly(0, "connections in the wrong queue"),
        why="Which listener a connection belongs to is decided by its first packet "
        "(reuseport_select_sock()). No process has seen it by then.",
        count=len(ports),
        first=first,
        last=first + WIDTH - 1,
    ) as step:
        trial.stop(server, server.holders(port))
        for number in ports:
            step.advise("full", client=number)
            sockets[number], found[number] = place(trial, client, number, server, port)
        wrong = find_wrong(found, first)
        ends = {first + distance for distance in (-1, 0, WIDTH - 1, WIDTH)}
        step.advise("mixed")
        step.advise("same", when=len({*found.values()}) == 1)
        step.advise("edge", when=ends >= {*wrong}, ports=" ".join(map(str, wrong)))
        step.measured(len(wrong))
    return sockets


def place(
    trial: Trial, client: Process, number: int, server: Host, port: int
) -> tuple[Socket, int]:
    """Connect from this port: the socket, and the listener in whose queue the connection waits."""
    before = server.queues(port)
    socket = connect(client, number, (server.ipv4, port))
    trial.settle(lambda: server.queues(port) != before, seconds=SECONDS)
    return socket, find_queue(before, server.queues(port))


def connect(client: Process, number: int, address: tuple[str, int]) -> Socket:
    """Connect from this port; CallError where there is no room in time."""
    socket = client.socket()
    limit = struct.pack("@ll", SECONDS, 0).decode("latin-1")
    for option in (SO_RCVTIMEO, SO_SNDTIMEO):
        socket.setsockopt(SOL_SOCKET, option, limit)
    socket.bind(("0.0.0.0", number))
    socket.connect(address)
    return socket


def find_queue(before: Mapping[int, int], now: Mapping[int, int]) -> int:
    """The listener whose queue has become longer."""
    return next((inode for inode in now if now[inode] > before.get(inode, 0)), 0)


def find_wrong(found: Mapping[int, int], first: int) -> list[int]:
    """The ports of clients that are not where the others of their kind are, and only those."""
    inside = Counter(found[first + distance] for distance in INSIDE)
    (chosen, _), *_ = inside.most_common(1)
    wanted = range(first, first + WIDTH)
    return sorted(port for port in found if (found[port] == chosen) != (port in wanted))


def answer_all(
    trial: Trial, program: Program, waiting: dict[int, Socket], port: int, first: int
) -> None:
    """The program goes on, and each client reads its answer."""
    with trial.step(
        "It goes on, and the clients read their answers",
        expect=exactly(len(waiting), "right answers"),
        why="Each listener is served by whoever accepts from it: here that alone decides what the "
        "client is told.",
    ) as step:
        trial.go_on(program.host, program.host.holders(port))
        answers = {}
        for number, socket in waiting.items():
            answers[number] = read(socket)
            if answers[number] not in (CANARY, STABLE):
                break
        inside = range(first, first + WIDTH)
        wanted = {number: CANARY if number in inside else STABLE for number in waiting}
        wrong = [number for number in answers if answers[number] != wanted[number]]
        for number in wrong[-1:]:
            step.advise("silent", client=number, answer=answers[number], wanted=wanted[number])
        step.advise("swapped", when=len(wrong) == len(waiting) and answers[wrong[-1]] != "")
        step.measured(len(answers) - len(wrong))


def read(socket: Socket) -> str:
    """What comes until the end of the stream, or until nothing comes in time."""
    text = ""
    try:
        while more := socket.recv(100):
            text += more
    except CallError:
        pass
    return text.strip()
