"""The check of twins: two copies share a port, each with a queue of its own, and come and go."""

from collections.abc import Sequence
from signal import SIGKILL

from labs.engine.challenge import (
    Host,
    Process,
    Program,
    Requirement,
    Trial,
    challenge,
    exactly,
)

REQUESTS = 40


@challenge(
    "twins",
    title="Let two copies of a server share a port, each with a queue of its own",
    hints=(
        (
            "Look at the first steps of the lab: what does Alice's first socket have that lets the "
            "second one join?"
        ),
        (
            "Both sockets need SO_REUSEPORT, and each at the time when the second one calls "
            "bind(). SO_REUSEADDR is another option: it lets nobody join a listener."
        ),
        "Make the socket, call setsockopt(SOL_SOCKET, SO_REUSEPORT, 1), then bind() and listen().",
    ),
    advice={
        "alone": "A copy was refused on port {port}: the socket that already listens there has "
        "neither SO_REUSEADDR nor SO_REUSEPORT, and so shares with nobody.",
        "reuseaddr": "A copy was refused on port {port}: the socket that listens there has "
        "SO_REUSEADDR, and that is no use against a listener. It lets a server come back, not two "
        "stand side by side.",
        "late": "A copy was refused on port {port}, though the one that listens there has "
        "SO_REUSEPORT: the copy's own socket did not have it when it called bind().",
        "same": "Both copies hold one and the same socket. Whoever passes it on shares its queue "
        "as well; here each copy is to have a queue of its own.",
        "elsewhere": "A copy runs, but does not listen on port {port}. It may wait for the other "
        "to end; or its bind() failed and it called listen() all the same, which then takes any "
        "free port.",
        "silent": "Not every client was answered with the name of a copy. Each connection gets the "
        "name, and is then closed; the server is not to wait for words of the client.",
    },
)
def twins(trial: Trial) -> None:
    """Two copies start one after the other, clients come, one copy is killed and a third starts."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")
    one, two = trial.shuffled(["red", "blue"])

    with trial.step(
        "A copy of your program starts, named {name}",
        expect=exactly(1, "copy with a listener of its own"),
        why="The port is free.",
        name=one,
    ) as step:
        first = start(trial, server, port, one)
        step.advise("elsewhere", port=port)
        step.measured(count_own(trial, [first], port))

    copies = [first]
    join(trial, copies, server, port, two)
    serve(trial, client, copies, port)

    with trial.step(
        "The first copy is killed",
        expect=exactly(1, "copy with a listener of its own"),
        why="Its socket goes with it, and leaves the group (reuseport_detach_sock()).",
    ) as step:
        trial.expect_end(first)
        trial.signal(first.host, trial.family(first), SIGKILL)
        copies.remove(first)
        trial.settle(lambda: set(server.queues(port)) <= set(trial.listeners(copies[0], port)))
        step.measured(count_own(trial, copies, port))

    join(trial, copies, server, port, "green")
    serve(trial, client, copies, port)


def join(trial: Trial, copies: list[Program], server: Host, port: int, name: str) -> None:
    """One more copy starts beside the one that listens."""
    with trial.step(
        "A copy named {name} starts beside it",
        expect=exactly(2, "copies with a listener of their own"),
        why="Both sockets have SO_REUSEPORT and one owner (inet_csk_bind_conflict()).",
        name=name,
    ) as step:
        copy = start(trial, server, port, name)
        advise(trial, step, copies[0], copy, port)
        copies.append(copy)
        step.measured(count_own(trial, copies, port))


def start(trial: Trial, server: Host, port: int, name: str) -> Program:
    """Start a copy, and wait until it listens."""
    copy = trial.start(name, server, port, name, user="alice")
    trial.settle(lambda: bool(trial.listeners(copy, port)))
    return copy


def count_own(trial: Trial, copies: Sequence[Program], port: int) -> int:
    """How many copies have a listener that no other copy has."""
    held = [set(trial.listeners(copy, port)) for copy in copies]
    others = [set[int]().union(*(other for other in held if other is not own)) for own in held]
    return sum(bool(own - other) for own, other in zip(held, others, strict=True))


def advise(trial: Trial, step: Requirement, listening: Program, copy: Program, port: int) -> None:
    """What to say where the copy has not come to share the port."""
    held = trial.listeners(listening, port)
    rows = [
        row for process in trial.family(listening) for row in process.sockets if row.inode in held
    ]
    step.advise("alone", port=port)
    step.advise("reuseaddr", when=any(row.reuseaddr for row in rows), port=port)
    step.advise("late", when=any(row.reuseport for row in rows), port=port)
    step.advise("elsewhere", when=copy.status is None, port=port)
    step.advise("same", when=set(held) == set(trial.listeners(copy, port)))


def serve(trial: Trial, client: Process, copies: Sequence[Program], port: int) -> None:
    """Clients are answered, by both copies.

    That the hash leaves one of the two without any of 40 happens in one of 2 ** 39 runs.
    """
    with trial.step(
        "{count} clients come",
        expect=exactly(REQUESTS, "answers of the two copies"),
        why="A hash of addresses and ports picks one of the two for each connection "
        "(reuseport_select_sock()), and nobody but this one can accept it.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (copies[0].host.ipv4, port), REQUESTS)
        shares = {copy.name: float(answers.by.get(copy.name, 0)) for copy in copies}
        step.advise("silent")
        step.measured(sum(shares.values()) if all(shares.values()) else 0, shares)
