"""The check of rebind: three users bind one port, one listens, and when it goes the next does."""

from signal import SIGKILL

from labs.engine.challenge import (
    EADDRINUSE,
    Host,
    Process,
    Program,
    Trial,
    challenge,
    exactly,
)

REQUESTS = 20
USERS = ("alice", "bob", "carol")


@challenge(
    "rebind",
    title="Let three users hold one port, one of them listen, and the next take over when that one "
    "dies",
    hints=(
        (
            "Several sockets may be bound to one port as long as none listens: see the first steps "
            "of the lab. Which option does it take, and which of them asks for the user?"
        ),
        (
            "All three set SO_REUSEADDR, before bind(). listen() asks for the port once more, and "
            "whoever is late gets EADDRINUSE from it. That is an answer and no reason to end: the "
            "socket is still bound."
        ),
        (
            "Keep one bound socket for PORT. For each client of CONTROL try listen() on it: answer "
            "yes, or no for an OSError; and serve PORT and CONTROL side by side, with a selector "
            "for example."
        ),
    ),
    advice={
        "alone": "A copy of another user could not bind port {port} beside the first, although "
        "nobody listens: all sockets on it need SO_REUSEADDR.",
        "users": "A copy of another user could not bind port {port} beside the first: they have "
        "SO_REUSEPORT, and that is for one user alone.",
        "early": "Port {port} has a listener before anybody was told to listen. Then nobody else "
        "can bind there.",
        "unbound": "CONTROL is open, but port {port} was not bound: a stranger got it. A copy that "
        "stands by holds the port, with a socket that does not listen.",
        "gave-up": "The copy that was told to listen while another listens has ended. listen() "
        "said EADDRINUSE, and nothing worse: its socket is still bound, and its turn may come.",
        "liar": "What was answered at CONTROL is not what the kernel says: yes is for a copy that "
        "listens now, no for one that was refused.",
        "lost": "The listener is dead, and the next copy was told to listen, but does not. The "
        "socket that it had bound at first could have.",
        "silent": "Not every client was answered by the copy that listens. Each connection gets "
        "its name, and is then closed.",
    },
)
def rebind(trial: Trial) -> None:
    """Each copy binds; then one after the other is told to listen, and dies."""
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="dave")
    stranger = server.process("stranger", user="dave")
    users = trial.shuffled(USERS)
    controls = {user: trial.port(9001 + number) for number, user in enumerate(USERS)}

    first, second, third = (start(trial, server, user, controls[user]) for user in users)
    refuse_stranger(trial, stranger)
    tell(trial, client, first, controls[first.name], "yes")
    serve(trial, client, first)
    tell(trial, client, second, controls[second.name], "no")
    serve(trial, client, first)
    for dead, following in ((first, second), (second, third)):
        kill(trial, dead)
        refuse_stranger(trial, stranger)
        tell(trial, client, following, controls[following.name], "yes")
        serve(trial, client, following)


def start(trial: Trial, server: Host, user: str, control: int) -> Program:
    """A copy starts, and binds; CONTROL says that it has."""
    port = trial.port(8080)
    with trial.step(
        "A copy is started by {user}, and opens CONTROL, port {control}",
        expect=exactly(1, "listener on CONTROL"),
        why="With SO_REUSEADDR on all of them many may be bound, of any user, while none listens "
        "(inet_csk_bind_conflict()).",
        user=user,
        control=control,
    ) as step:
        copy = trial.start(user, server, port, control, user, user=user)
        trial.settle(lambda: bool(trial.listeners(copy, control)))
        rows = [row for process in server.processes() for row in process.sockets]
        refused = "Address already in use" in copy.output
        step.advise("alone", when=refused, port=port)
        step.advise("users", when=refused and any(row.reuseport for row in rows), port=port)
        step.advise("early", when=bool(server.queues(port)), port=port)
        step.measured(len(trial.listeners(copy, control)))

    with trial.step(
        "Who listens on port {port}?",
        expect=exactly(0, "listeners on the port"),
        why="Nobody was told to.",
        port=port,
    ) as step:
        server.show()
        # Who does not wait to be told listens within microseconds.
        trial.settle(lambda: bool(server.queues(port)), seconds=0.2)
        step.advise("early", port=port)
        step.measured(len(server.queues(port)))
    return copy


def refuse_stranger(trial: Trial, stranger: Process) -> None:
    """A stranger without the option does not get what is only bound."""
    port = trial.port(8080)
    with trial.step(
        "Nobody serves port {port}; Dave, a stranger, asks for it without any option",
        expect=EADDRINUSE.by("bind"),
        why="Sockets that are bound hold the port, against everybody without the option.",
        port=port,
    ) as step:
        step.advise("unbound", port=port)
        stranger.listen(port)


def tell(trial: Trial, client: Process, copy: Program, control: int, right: str) -> None:
    """A client comes to CONTROL; the copy tries to listen, and says whether it does."""
    port = trial.port(8080)
    with trial.step(
        "{name} is told to listen: a client comes to its CONTROL",
        expect=exactly(1, "right answer"),
        why="listen() asks for the port again (inet_csk_listen_start()): the first has it. "
        "Everybody else gets EADDRINUSE, and stays bound.",
        name=copy.name,
    ) as step:
        answers = trial.ask(client, (copy.host.ipv4, control), 1)
        step.advise("liar")
        if not answers.by.get(right):
            trial.settle(lambda: copy.status is not None, seconds=1)
        step.advise("gave-up", when=copy.status is not None and right == "no")
        step.advise("lost", when=right == "yes" and not copy.host.queues(port))
        step.measured(answers.by.get(right, 0))

    with trial.step(
        "Who listens on port {port}, and does {name}?",
        expect=exactly(1, "listener, as was said"),
        why="One port, one listener: SO_REUSEADDR lets many wait, and one serve.",
        port=port,
        name=copy.name,
    ) as step:
        copy.host.show()
        own, all_of_them = trial.listeners(copy, port), copy.host.queues(port)
        step.advise("liar")
        step.measured(len(all_of_them) if bool(own) == (right == "yes") else 0)


def kill(trial: Trial, copy: Program) -> None:
    """The copy that listens is killed."""
    port = trial.port(8080)
    with trial.step(
        "{name} is killed (SIGKILL)",
        expect=exactly(0, "listeners"),
        why="The listener goes with it. Connections in TIME_WAIT stay, with its SO_REUSEADDR.",
        name=copy.name,
    ) as step:
        trial.expect_end(copy)
        trial.signal(copy.host, trial.family(copy), SIGKILL)
        trial.settle(lambda: not copy.host.queues(port))
        step.advise("early", port=port)
        step.measured(len(copy.host.queues(port)))


def serve(trial: Trial, client: Process, copy: Program) -> None:
    """Clients are answered, by the one that listens."""
    with trial.step(
        "{count} clients come to port {port}",
        expect=exactly(REQUESTS, "answers of the one that listens"),
        why="A copy that is only bound gets no client.",
        count=REQUESTS,
        port=trial.port(8080),
    ) as step:
        answers = trial.ask(client, (copy.host.ipv4, trial.port(8080)), REQUESTS)
        step.advise("silent")
        step.measured(answers.by.get(copy.name, 0), answers.parts)
