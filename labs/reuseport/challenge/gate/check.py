"""The check of gate: a stranger comes between bind() and listen(), a second copy may come too."""

from labs.engine.challenge import (
    EADDRINUSE,
    Host,
    Process,
    Program,
    Trial,
    challenge,
    exactly,
)

REQUESTS = 40


@challenge(
    "gate",
    title="Bind early, listen late, and let nobody slip in between",
    hints=(
        (
            "A port is taken from bind() on, but who else may bind beside you depends on your "
            "socket's options. Which of the two options asks for the user?"
        ),
        (
            "With SO_REUSEADDR anybody may bind as long as nobody listens. Without any option "
            "nobody may, not even your second copy. With SO_REUSEPORT only sockets of your user "
            "may."
        ),
        (
            "SO_REUSEPORT alone, then bind(PORT); only then listen on CONTROL, accept there once, "
            "close that connection, and now call listen() on the socket of PORT."
        ),
    ),
    advice={
        "unbound": "CONTROL was open, and port {port} was still free: a stranger without any "
        "option got it. Bind PORT first, then open CONTROL.",
        "stranger": "A stranger, another user, has slipped in between bind() and listen(): your "
        "socket has SO_REUSEADDR, which asks for no user as long as nobody listens.",
        "early": "Port {port} has a listener before anybody has come to CONTROL. A socket that is "
        "bound gets no clients; one that listens gets them, accepted or not.",
        "alone": "A second copy was refused on port {port}: without an option a socket lets nobody "
        "in beside it, not even one of the same user.",
        "shut": "A client has come to CONTROL, and port {port} has no listener of that copy.",
        "silent": "Not every client was answered with the name of a copy whose gate is open. Each "
        "connection gets the name, and is then closed.",
    },
)
def gate(trial: Trial) -> None:
    """Two copies start, each stands before its gate for a while, and strangers try theirs."""
    port = trial.port(8080)
    server = trial.host("server")
    bob = server.process("bob", user="bob")
    client = trial.host("elsewhere").process("client", user="bob")
    one, two = trial.shuffled(["east", "west"])

    first = start(trial, server, one, trial.port(9001), 0)
    refuse_strangers(trial, bob, port)
    open_gate(trial, client, first, trial.port(9001), 1)
    serve(trial, client, server, [one])

    second = start(trial, server, two, trial.port(9002), 1)
    serve(trial, client, server, [one])
    open_gate(trial, client, second, trial.port(9002), 2)
    serve(trial, client, server, [one, two])


def start(trial: Trial, server: Host, name: str, control: int, listeners: int) -> Program:
    """Start a copy, and wait until CONTROL is open; it does not listen on the port yet."""
    port = trial.port(8080)
    with trial.step(
        "A copy named {name} starts, and opens CONTROL, port {control}",
        expect=exactly(1, "listener on CONTROL"),
        why="The copy is ready: it has its port, and has not opened it.",
        name=name,
        control=control,
    ) as step:
        copy = trial.start(name, server, port, control, name, user="alice")
        trial.settle(lambda: bool(trial.listeners(copy, control)))
        step.advise("alone", when="Address already in use" in copy.output, port=port)
        step.measured(len(trial.listeners(copy, control)))

    with trial.step(
        "Who listens on port {port} now?",
        expect=exactly(listeners, "listeners on the port"),
        why="A socket that is bound and no more takes the port, and no clients "
        "(inet_csk_get_port()).",
        port=port,
    ) as step:
        server.show()
        # Who does not wait for a client listens within microseconds.
        trial.settle(lambda: len(server.queues(port)) != listeners, seconds=0.3)
        step.advise("early", port=port)
        step.measured(len(server.queues(port)))
    return copy


def refuse_strangers(trial: Trial, bob: Process, port: int) -> None:
    """Bob tries to get between bind() and listen()."""
    with trial.step(
        "Bob, another user, asks for port {port} without any option",
        expect=EADDRINUSE.by("bind"),
        why="The port is taken from bind() on.",
        port=port,
    ) as step:
        step.advise("unbound", port=port)
        bob.listen(port)

    with trial.step(
        "Bob asks with SO_REUSEADDR and SO_REUSEPORT, and would listen at once",
        expect=EADDRINUSE.by("bind"),
        why="He has all options that there are. What he has in common with your socket is "
        "SO_REUSEPORT alone, and for that the owners are compared (inet_csk_bind_conflict()).",
    ) as step:
        step.advise("stranger")
        bob.listen(port, reuseaddr=True, reuseport=True)


def open_gate(trial: Trial, client: Process, copy: Program, control: int, listeners: int) -> None:
    """A client comes to CONTROL, and the copy listens on its port."""
    port = trial.port(8080)
    with trial.step(
        "A client comes to CONTROL, port {control}",
        expect=exactly(listeners, "listeners on the port"),
        why="Only listen() lets the socket into the group among whose members the kernel chooses "
        "(inet_hash(), inet_reuseport_add_sock()).",
        control=control,
    ) as step:
        client.connect((copy.host.ipv4, control))
        copy.host.show()
        trial.settle(lambda: bool(trial.listeners(copy, port)))
        step.advise("shut", port=port)
        step.measured(len(copy.host.queues(port)))


def serve(trial: Trial, client: Process, server: Host, names: list[str]) -> None:
    """Clients are answered, by those whose gate is open.

    That the hash leaves one of two without any of 40 happens in one of 2 ** 39 runs.
    """
    with trial.step(
        "{count} clients come to port {port}",
        expect=exactly(REQUESTS, "answers of copies whose gate is open"),
        why="A hash picks one of those that listen (reuseport_select_sock()); a socket that is "
        "only bound is not among them.",
        count=REQUESTS,
        port=trial.port(8080),
    ) as step:
        answers = trial.ask(client, (server.ipv4, trial.port(8080)), REQUESTS)
        shares = {name: float(answers.by.get(name, 0)) for name in names}
        step.advise("silent")
        step.measured(sum(shares.values()) if all(shares.values()) else 0, shares)
