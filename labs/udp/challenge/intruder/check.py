"""The check of intruder: another user has the UDP port, and would come back."""

import functools
from pathlib import Path
from socket import SO_REUSEADDR, SO_REUSEPORT, SOCK_DGRAM

from labs.engine.challenge import (
    EADDRINUSE,
    Host,
    Process,
    Program,
    Socket,
    Trial,
    challenge,
    exactly,
)

DATAGRAMS = 20
NEEDED = ("CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_PTRACE")
NEIGHBOUR = Path(__file__).with_name("neighbour.py")


@challenge(
    "intruder",
    title="Find who takes your datagrams, end that and nothing else, and keep the port",
    hints=(
        (
            "Two things are to be done. The port has to become free, and then be yours alone: what "
            "was it that Alice's socket did without in the first steps of the lab, and that kept "
            "Bob out?"
        ),
        (
            "/proc/net/udp has a line for each UDP socket: the local address and port in "
            "hexadecimal, and its inode. A process that holds it has a link to socket:[INODE] "
            "in /proc/PID/fd. There may be several; the port is free when the last has gone."
        ),
        (
            "bind() without any option, in a loop: while it says EADDRINUSE, find the holders of "
            "UDP sockets on the port, send them SIGKILL, and try again a moment later."
        ),
    ),
    advice={
        "beside": "The intruder still has a socket on the port, beside yours. To be the last "
        "that binds gives you the datagrams only until the next one comes.",
        "taken": "bind() on port {port} was refused: the intruder is still there, {left} of its 2 "
        "processes. A socket is closed when the last process that holds it has ended, and "
        "a process that was sent SIGKILL takes a moment for it.",
        "idle": "Your program has no UDP socket on port {port} of all IPv4 addresses.",
        "many": "You have ended processes that do not hold UDP port {port}. The same user has "
        "another program, with the TCP port of this number and another UDP port.",
        "open": "The next intruder has got the port, beside you: your socket has SO_REUSEADDR, and "
        "for UDP that asks for no user, however late one comes.",
        "silent": "Not every datagram was answered. Each gets the answer NAME, to the address from "
        "which it came.",
    },
)
def intruder(trial: Trial) -> None:
    """An intruder has the port; the program gets rid of it, and a second one is refused."""
    port, other = trial.port(5353), trial.port(5454)
    server = trial.host("server")
    bob = server.process("bob", user="bob")
    client = trial.host("elsewhere").process("client", user="carol")

    with trial.step(
        "Bob's programs run: one has UDP port {port}, the other TCP {port} and UDP {other}",
        expect=exactly(3, "sockets of Bob's"),
        why="Each socket is held by two processes, for the programs have forked.",
        port=port,
        other=other,
    ) as step:
        rival = trial.start_own("rival", server, NEIGHBOUR, "udp", port, user="bob")
        neighbour = trial.start_own(
            "neighbour", server, NEIGHBOUR, "tcp", port, "udp", other, user="bob"
        )
        trial.wait_for_program(lambda: count_all(trial, rival, neighbour) == 4, "they fork")
        step.measured(len(server.sockets(port)) + len(server.sockets(other)))

    intruders = {row.pid for row in trial.family(rival)}
    take_over(trial, server, intruders, port)
    spare(trial, neighbour, port)
    refuse(trial, bob, port)
    serve(trial, client, server, port)


def count_all(trial: Trial, *programs: Program) -> int:
    """How many processes there are of these programs."""
    return sum(len(trial.family(program)) for program in programs)


def take_over(trial: Trial, server: Host, intruders: set[int], port: int) -> None:
    """The trainee's program has the port, and nobody else."""
    with trial.step(
        "Root starts your program",
        expect=exactly(1, "UDP socket of yours on the port"),
        why="It is bound to the port, whoever else may be.",
    ) as step:
        program = trial.start("guard", server, port, "guard", user="root", capabilities=NEEDED)
        trial.settle(lambda: count_sockets(trial, program, port) == (1, 0))
        own, _ = count_sockets(trial, program, port)
        left = sum(row.pid in intruders and bool(row.sockets) for row in server.processes())
        step.advise("idle", port=port)
        step.advise("taken", when="Address already in use" in program.output, port=port, left=left)
        step.measured(own)

    with trial.step(
        "It is alone with the port",
        expect=exactly(0, "UDP sockets of others on the port"),
        why="A datagram goes to one socket: of equal ones to that which was bound last "
        "(udp4_lib_lookup2()). Where there is only one, there is no question.",
    ) as step:
        server.show()
        _, others = count_sockets(trial, program, port)
        step.advise("beside")
        step.measured(others)


def count_sockets(trial: Trial, program: Program, port: int) -> tuple[int, int]:
    """How many UDP sockets on the port the program holds, and how many others there are."""
    held = {row.inode for process in trial.family(program) for row in process.sockets}
    rows = [row for row in program.host.sockets(port) if row.protocol == "udp"]
    own = sum(row.inode in held for row in rows)
    return own, len(rows) - own


def spare(trial: Trial, neighbour: Program, port: int) -> None:
    """Who does not hold the port was left alone."""
    with trial.step(
        "Bob's other program still runs",
        expect=exactly(2, "processes of it"),
        why="A TCP port of the same number is another port, and a user may have other programs.",
    ) as step:
        neighbour.host.show()
        step.advise("many", port=port)
        step.measured(len(trial.family(neighbour)))


def refuse(trial: Trial, bob: Process, port: int) -> None:
    """A second intruder comes."""
    with trial.step(
        "Bob asks for UDP port {port} again, with SO_REUSEADDR and SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        why="Both sides would need the same option, and yours has none (udp_lib_lport_inuse()).",
        port=port,
    ) as step:
        step.advise("open")
        bob.bind(port, SO_REUSEADDR, SO_REUSEPORT, kind=SOCK_DGRAM)

    with trial.step(
        "He asks for the host's own address",
        expect=EADDRINUSE.by("bind"),
        why="A more specific socket would be looked up before yours (__udp4_lib_lookup()). Its "
        "address meets yours, so it is refused as well.",
    ) as step:
        step.advise("open")
        address = bob.host.ipv4
        bob.bind(port, SO_REUSEADDR, SO_REUSEPORT, address=address, kind=SOCK_DGRAM)


def serve(trial: Trial, client: Process, server: Host, port: int) -> None:
    """Datagrams are answered, each from a port of its own."""
    with trial.step(
        "A client sends {count} datagrams, each from another port",
        expect=exactly(DATAGRAMS, "answers"),
        why="All of them come to you.",
        count=DATAGRAMS,
    ) as step:
        senders = [client.socket(kind=SOCK_DGRAM) for _ in range(DATAGRAMS)]
        for sender in senders:
            sender.connect((server.ipv4, port))
            sender.send("?")
        step.advise("silent")
        step.measured(count_answers(trial, senders))


def count_answers(trial: Trial, senders: list[Socket]) -> int:
    """How many senders have the right answer, up to the first that has not."""
    for count, sender in enumerate(senders):
        host, port = sender.process.host, sender.getsockname()[1]
        if not trial.settle(functools.partial(has_answer, host, port), seconds=3):
            return count
        if sender.recv(100) != "guard":
            return count
    return len(senders)


def has_answer(host: Host, port: int) -> bool:
    """Whether something waits in the socket on this port."""
    return any(row.receive_queue for row in host.sockets(port))
