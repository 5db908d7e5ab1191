"""The check of graceful: SIGTERM comes while one client is being served and others wait."""

from signal import SIGTERM

from labs.engine.challenge import ECONNREFUSED, Host, Program, Trial, challenge, exactly

WAITING = 8


@challenge(
    "graceful",
    title="End at SIGTERM, and send nobody away who has come before",
    hints=(
        (
            "Two kinds of clients are there when the signal comes: one whose connection you have "
            "accepted, and some that wait in the listener's queue. Both take themselves for "
            "connected."
        ),
        (
            "close() of a listener, and the end of its last process, reset what waits in its "
            "queue. So the queue has to be empty first, and only accept() empties it."
        ),
        (
            "Let the handler do nothing but write a byte to a pipe, and wait for listener and pipe "
            "by select(). After the byte, accept without blocking until nobody waits; then return."
        ),
    ),
    advice={
        "at-once": "Nobody was answered: the program has dropped the client that it was serving, "
        "and the end of the listener has reset those that waited.",
        "hand": "Those that waited were answered, the client that was being served was not. A "
        "handler may run in the middle of anything: it must not end the program.",
        "queue": "The client that was being served got its answer, but not all that waited in the "
        "queue: close() and exit() reset them.",
        "stays": "All were answered, but then the program went on. A signal that sets a flag does "
        "not end an accept() or a select() that nobody else wakes: Python calls it again.",
        "status": "All were answered, but the program has ended with status {status}, as if "
        "something had gone wrong.",
        "left": "The program has ended, and somebody still listens on its port: a process that it "
        "has left behind.",
    },
)
def graceful(trial: Trial) -> None:
    """A server gets SIGTERM at the worst moment."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Your program starts, and listens on port {port}",
        expect=exactly(1, "listeners"),
        why="One listener, with one queue.",
        port=port,
    ) as step:
        program = trial.start("program", server, port, "program", user="alice")
        trial.settle(lambda: len(trial.listeners(program, port)) == 1)
        step.measured(len(trial.listeners(program, port)))

    with trial.step(
        "One client is being served, {count} wait, and SIGTERM comes; then all of them speak",
        expect=exactly(1 + WAITING, "answers"),
        why="To the clients all of them are connected. The kernel would reset those that wait when "
        "the listener is closed (inet_csk_listen_stop()).",
        count=WAITING,
    ) as step:
        served = client.connect((server.ipv4, port))
        trial.settle(lambda: count_accepted(server, port) == 1)
        processes = trial.family(program)
        trial.stop(server, processes)
        waiting = client.connect_many((server.ipv4, port), WAITING)
        trial.expect_end(program)
        trial.signal(server, [program], SIGTERM)
        trial.go_on(server, processes)
        first, *others = (bool(answer) for answer in trial.speak([served, *waiting], "\n"))
        step.advise("queue")
        step.advise("hand", when=not first)
        step.advise("at-once", when=not first and not any(others))
        step.measured(first + sum(others))

    end(trial, server, program)

    with trial.step(
        "Another client comes",
        expect=ECONNREFUSED.by("connect"),
        why="Nobody listens any more, and a SYN is answered by a RST.",
    ) as step:
        trial.settle(lambda: not server.queues(port), seconds=1)
        step.advise("left")
        client.connect((server.ipv4, port))


def count_accepted(server: Host, port: int) -> int:
    """How many connections a process has: one that waits in a queue has no inode yet."""
    return sum(row.state == "ESTABLISHED" and row.inode > 0 for row in server.sockets(port))


def end(trial: Trial, server: Host, program: Program) -> None:
    """The program ends by itself, and says that all is well."""
    with trial.step(
        "Nobody is left, and the program ends",
        expect=exactly(1, "program that has ended with status 0"),
        why="Whoever has sent the signal, a service manager for example, waits for this, and sends "
        "SIGKILL in the end.",
    ) as step:
        server.show()
        trial.settle(lambda: program.status is not None)
        step.advise("stays", when=program.status is None)
        step.advise("status", when=bool(program.status), status=program.status)
        step.measured(int(program.status == 0))
