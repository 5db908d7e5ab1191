"""The check of drop: a low port, a server that is Alice's for good, and a second one beside it."""

from labs.engine.challenge import OK, Host, Process, Program, Trial, challenge, exactly

REQUESTS = 40
NEEDED = ("CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID")


@challenge(
    "drop",
    title="Start as root, take a low port, end as another user, and still share it",
    hints=(
        (
            "Whoever is Alice before socket() has Alice's socket, as in the exercise share. But "
            "whoever is Alice at bind() gets no low port. Does it have to be one or the other?"
        ),
        (
            "A socket's user is the effective uid of the moment in which socket() is called. A low "
            "port takes CAP_NET_BIND_SERVICE in the moment in which bind() is called."
        ),
        (
            "seteuid() changes the effective uid alone, and root may go back: be the user, call "
            "socket(), be root again, call bind(), and only then become the user for good."
        ),
    ),
    advice={
        "refused": "bind() on port {port} was refused: only a process that has "
        "CAP_NET_BIND_SERVICE may have a port below 1024, and it has lost that when its effective "
        "uid is no longer 0.",
        "roots": "The port is open, but its socket is root's (uid 0): that was the effective uid "
        "when socket() was called. Who has the socket now makes no difference.",
        "again": "The processes could be root again: not all four of their uids are {uid}, or they "
        "have capabilities left. seteuid() leaves the real and the saved uid as they are.",
        "alone": "A second server cannot share the port: both sockets need SO_REUSEPORT, before "
        "bind().",
        "silent": "Not every client was answered. Each connection gets NAME, and is then closed.",
    },
)
def drop(trial: Trial) -> None:
    """Two servers are started by root, and one by Alice; all three share a port."""
    port, uid = trial.port(80), trial.uid("alice")
    server = trial.host("server")
    alice = server.process("alice", user="alice", capabilities=["CAP_NET_BIND_SERVICE"])
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Root starts your program, and it listens on port {port}",
        expect=exactly(1, "listeners"),
        why="Root's capability opens the low port.",
        port=port,
    ) as step:
        first = start(trial, server, "first", port)
        step.advise("refused", when="Permission denied" in first.output, port=port)
        step.measured(len(trial.listeners(first, port)))

    with trial.step(
        "It is Alice's for good",
        expect=exactly(0, "processes that could be root again"),
        why="What a stranger could make such a server do, it does as Alice and nobody else.",
    ) as step:
        server.show()
        trial.settle(lambda: count_other(trial, first, uid) == 0, seconds=1)
        step.advise("again", uid=uid)
        step.measured(count_other(trial, first, uid))

    with trial.step(
        "Alice herself listens on the same port",
        expect=OK,
        why="Both sockets are hers: the uids of sockets are compared (inet_csk_bind_conflict()).",
    ) as step:
        step.advise("alone")
        step.advise("roots", when=owner(server, port) == 0)
        shared = alice.listen(port, reuseport=True)
        shared.close()

    with trial.step(
        "A second of your servers starts beside the first",
        expect=exactly(2, "listeners"),
        why="So a new version can start before the old one ends.",
    ) as step:
        second = start(trial, server, "second", port)
        step.advise("alone", when="Address already in use" in second.output)
        step.measured(len(server.queues(port)))

    serve(trial, server, client, port)


def start(trial: Trial, server: Host, name: str, port: int) -> Program:
    """Start one of the trainee's servers, and wait until it listens."""
    program = trial.start(
        name, server, port, trial.uid("alice"), name, user="root", capabilities=NEEDED
    )
    trial.settle(lambda: len(trial.listeners(program, port)) == 1)
    return program


def count_other(trial: Trial, program: Program, uid: int) -> int:
    """How many of a program's processes are somebody else in some way, or have a capability."""
    rows = trial.family(program)
    return sum(bool(row.capabilities) or set(row.credentials.uids) != {uid} for row in rows)


def owner(server: Host, port: int) -> int:
    """The uid of the listener on the port."""
    return next(row.uid for row in server.sockets(port) if row.state == "LISTEN")


def serve(trial: Trial, server: Host, client: Process, port: int) -> None:
    """Clients are answered, by both."""
    with trial.step(
        "{count} clients come",
        expect=exactly(REQUESTS, "answers"),
        why="Each of the two has a queue of its own, and serves it.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)
