"""The check of again: a server comes back at once, and respects the listener of somebody else."""

from signal import SIGKILL

from labs.engine.challenge import (
    OK,
    Host,
    Process,
    Program,
    Trial,
    between,
    challenge,
    exactly,
)

REQUESTS = 20


@challenge(
    "again",
    title="Stop a server, start it again at once, and never push in beside another one",
    hints=(
        (
            "Nobody listens, and yet the port is taken: by what? The evidence of the third step "
            "shows it, and the lab in which states it can be."
        ),
        (
            "What is left has the options that its listener had, and the new socket needs the "
            "same. Two options would do. One of them lets you in beside a listener as well, the "
            "other never does."
        ),
        "SO_REUSEADDR, at each start, before bind(). If bind() is refused even so, end.",
    ),
    advice={
        "left": "The second start was refused. What is left on port {port} are connections of the "
        "first one, {states}, and they do not have SO_REUSEADDR: both sides need it, so set it at "
        "each start.",
        "late": "The second start was refused, though the first one's socket had SO_REUSEADDR in "
        "the end. The new one did not have it when it called bind().",
        "reset": "Not every client got a whole answer: {reset} were reset. A server that resets "
        "its clients leaves no TIME_WAIT, but they may lose what was sent to them.",
        "silent": "Not every client was answered. Each connection gets the name, and is then "
        "closed, by the server first.",
        "shares": "Your program listens on port {port} beside the server that was there, and takes "
        "a part of its clients: SO_REUSEPORT passes what is left, and a listener too.",
        "waits": "Another server listens on port {port}, and your program goes on all the same. It "
        "shall end, with a status other than 0.",
        "status": "Another server listens on port {port}, and your program has ended with status "
        "0, as if all were well.",
    },
)
def again(trial: Trial) -> None:
    """The program is killed and comes back; then it is started where another server is."""
    port, other = trial.port(8080), trial.port(9090)
    server = trial.host("server")
    rival = server.process("rival", user="alice")
    client = trial.host("elsewhere").process("client", user="bob")
    names = trial.shuffled(["monday", "tuesday"])

    first = start(trial, server, names[0], port)
    serve(trial, client, first, port)
    leave_open(trial, client, first, port)
    second = come_back(trial, first, names[1], port)
    serve(trial, client, second, port)

    with trial.step(
        "Another server of the same user listens on port {port}, with both options",
        expect=OK,
        why="It would share the port with any socket of this user that has SO_REUSEPORT.",
        port=other,
    ):
        listener = rival.listen(other, reuseaddr=True, reuseport=True)
        listener.serve()
    respect(trial, client, server, other)


def start(trial: Trial, server: Host, name: str, port: int) -> Program:
    """The first start, on a free port."""
    with trial.step(
        "Your program starts, named {name}",
        expect=exactly(1, "listener"),
        why="The port is free.",
        name=name,
    ) as step:
        program = trial.start(name, server, port, name, user="alice")
        trial.settle(lambda: bool(trial.listeners(program, port)))
        step.measured(len(trial.listeners(program, port)))
    return program


def serve(trial: Trial, client: Process, program: Program, port: int) -> None:
    """Clients are answered, and the server closes first."""
    with trial.step(
        "{count} clients come",
        expect=exactly(REQUESTS, "answers"),
        why="They wait for the end of the stream, so the server has to close first: that is the "
        "side on which TIME_WAIT is.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (program.host.ipv4, port), REQUESTS)
        step.advise("silent")
        step.advise("reset", when=answers.reset > 0, reset=answers.reset)
        step.measured(answers.by.get(program.name, 0), answers.parts)


def leave_open(trial: Trial, client: Process, program: Program, port: int) -> None:
    """One client never closes its end."""
    with trial.step(
        "One more connects, and does not close its end",
        expect=between(REQUESTS + 1, REQUESTS + 2, "connections left on the server's host"),
        why="The server has closed this one too: FIN_WAIT2, until the client closes or a minute "
        "is over. The others are in TIME_WAIT.",
    ) as step:
        client.connect((program.host.ipv4, port))
        program.host.show()

        def count() -> int:
            """How many connections the server has closed, and the kernel has kept."""
            return sum(program.host.count(port, state) for state in ("FIN_WAIT2", "TIME_WAIT"))

        trial.settle(lambda: count() > REQUESTS)
        step.advise("silent")
        step.measured(count())


def come_back(trial: Trial, first: Program, name: str, port: int) -> Program:
    """The program is killed, and started again with what is left of the first."""
    server = first.host
    held = {*trial.listeners(first, port)}
    rows = [row for process in trial.family(first) for row in process.sockets if row.inode in held]
    had_option = any(row.reuseaddr for row in rows)
    with trial.step(
        "It is killed (SIGKILL), and started again at once, named {name}",
        expect=exactly(1, "listener"),
        why="bind() compares with each connection that is left, and lets it be where both have "
        "SO_REUSEADDR and it does not listen (inet_csk_bind_conflict()).",
        name=name,
    ) as step:
        trial.expect_end(first)
        trial.signal(first.host, trial.family(first), SIGKILL)
        trial.settle(lambda: not server.queues(port))
        program = trial.start(name, server, port, name, user="alice")
        trial.settle(lambda: bool(trial.listeners(program, port)))
        states = ", ".join(sorted({row.state for row in server.sockets(port)}))
        step.advise("left", port=port, states=states)
        step.advise("late", when=had_option)
        step.measured(len(trial.listeners(program, port)))
    return program


def respect(trial: Trial, client: Process, server: Host, port: int) -> None:
    """Where another server listens the program ends, and leaves it alone."""
    with trial.step(
        "Your program is started for port {port}",
        expect=exactly(1, "listener on the port"),
        why="SO_REUSEADDR passes what does not listen, and nothing else.",
        port=port,
    ) as step:
        program = trial.start("late", server, port, "late", user="alice")
        trial.expect_end(program)
        trial.settle(lambda: program.status is not None or len(server.queues(port)) > 1, 2)
        step.advise("shares", port=port)
        step.measured(len(server.queues(port)))

    see_end(trial, program, port)
    with trial.step(
        "{count} clients come to port {port}",
        expect=exactly(REQUESTS, "answers of the server that was there"),
        why="It has not noticed anything.",
        count=REQUESTS,
        port=port,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("shares", port=port)
        step.measured(answers.by.get("rival", 0), answers.parts)


def see_end(trial: Trial, program: Program, port: int) -> None:
    """The program says that it could not start, by its status."""
    with trial.step(
        "Has it ended?",
        expect=exactly(0, "processes of it left"),
        why="A server without its port is no server.",
    ) as step:
        program.host.show()
        trial.settle(lambda: program.status is not None and not trial.family(program), seconds=2)
        step.advise("waits", port=port)
        step.measured(len(trial.family(program)))

    with trial.step(
        "Does its status say that it failed?",
        expect=exactly(1, "status other than 0"),
        why="Whoever has started it knows by this that it does not serve.",
    ) as step:
        program.host.show()
        step.advise("status", port=port)
        step.measured(int(program.status not in (None, 0)))
