"""The check of share: a server that root starts, and whose port its user shares with it."""

from labs.engine.challenge import OK, Host, Process, Program, Trial, challenge, exactly

REQUESTS = 40
NEEDED = ("CAP_SETUID", "CAP_SETGID")


@challenge(
    "share",
    title="Start as root, and share the port with the user that you become",
    hints=(
        (
            "Look at the step of the lab in which root makes a socket, becomes Alice for good, and "
            "is refused. Your program is where that root is."
        ),
        (
            "A socket belongs to whoever called socket(), and to nobody else later. What becomes "
            "of the process does not change it."
        ),
        (
            "Become the user first: the groups, then the gid, then the uid. After that make the "
            "socket, set SO_REUSEPORT, and bind it."
        ),
    ),
    advice={
        "late": "The process is Alice's, its socket is root's (uid 0): it was made before the "
        "process became Alice. bind() compares the sockets.",
        "effective": "The socket is root's (uid 0), for the effective uid of its process is 0. The "
        "real uid does not count.",
        "denied": "It could not become the user: whoever has given up root's uid may not change "
        "anything more, the groups and the gid included.",
        "alone": "The socket is Alice's, and shares its port with nobody: all sockets on it need "
        "SO_REUSEPORT, before bind().",
        "silent": "Not every client was answered. Each connection gets NAME, and is then closed.",
    },
)
def share(trial: Trial) -> None:
    """Two servers are started by root, and one by Alice; all three share a port."""
    port = trial.port(8080)
    server = trial.host("server")
    alice = server.process("alice", user="alice")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Root starts your program, and it listens on port {port}",
        expect=exactly(1, "listeners"),
        why="The port is above 1023: it takes no capability.",
        port=port,
    ) as step:
        first = start(trial, server, "first", port)
        step.advise("denied", when="Operation not permitted" in first.output)
        step.measured(len(trial.listeners(first, port)))

    with trial.step(
        "Alice herself listens on the same port",
        expect=OK,
        why="Both sockets are hers: bind() compares the owners of the sockets "
        "(inet_csk_bind_conflict()), and does not ask about processes.",
    ) as step:
        step.advise("alone")
        step.advise("late", when=owner(server, port) == 0)
        step.advise("effective", when=owner(server, port) == 0 and is_root(trial, first))
        shared = alice.listen(port, reuseport=True)
        shared.close()

    with trial.step(
        "A second of your servers starts beside the first",
        expect=exactly(2, "listeners"),
        why="It goes the same way as the first: root's process, Alice's socket.",
    ) as step:
        start(trial, server, "second", port)
        step.measured(len(server.queues(port)))

    serve(trial, server, client, port)


def start(trial: Trial, server: Host, name: str, port: int) -> Program:
    """Start one of the trainee's servers, and wait until it listens."""
    program = trial.start(
        name, server, port, trial.uid("alice"), name, user="root", capabilities=NEEDED
    )
    trial.settle(lambda: len(trial.listeners(program, port)) == 1)
    return program


def owner(server: Host, port: int) -> int:
    """The uid of the listener on the port."""
    return next(row.uid for row in server.sockets(port) if row.state == "LISTEN")


def is_root(trial: Trial, program: Program) -> bool:
    """Whether a process of the program has the effective uid 0 still."""
    return any(row.credentials.effective == 0 for row in trial.family(program))


def serve(trial: Trial, server: Host, client: Process, port: int) -> None:
    """Clients are answered, by both."""
    with trial.step(
        "{count} clients come",
        expect=exactly(REQUESTS, "answers"),
        why="The kernel spreads them over both sockets, by a hash.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)
