"""The check of drainer: one of two copies is told to end while connections wait in its queue."""

from signal import SIGTERM

from labs.engine.challenge import (
    Answers,
    Host,
    Process,
    Program,
    Trial,
    between,
    challenge,
    exactly,
)

# Each of them waits at either copy like a thrown coin falls: that fewer than FEWEST are at one of
# the two happens in one of 4,000,000 runs (binomial, 32 and 1/2).
CLIENTS = 32
FEWEST = 3


@challenge(
    "drainer",
    title="Leave a port that two share, and lose nobody who waits in your queue",
    hints=(
        (
            "The lab closes a member of the group while connections wait. Where are they then, and "
            "who could still have accepted them?"
        ),
        (
            "Only a process that holds the listener can accept what waits there, and close() "
            "resets the rest. So on SIGTERM accept first, until nothing waits, and close then. To "
            "find out that nothing waits, accept() must not block."
        ),
        (
            "Wait with a selector for two things: the listener, which does not block, and the "
            "other end of signal.set_wakeup_fd(). When the signal has come, accept and answer "
            "until BlockingIOError, close, and end."
        ),
    ),
    advice={
        "short": "Not all of the {count} clients came into a queue: {waiting} did. How many may "
        "wait at a listener is the number that listen() is given.",
        "lost": "Of {waiting} connections that waited in the queue of the copy that was told to "
        "end, {reset} were reset: whoever has not been accepted when the listener is closed is "
        "lost. No other copy can take them.",
        "stays": "The copy has not ended, though SIGTERM has come and nobody waits any more.",
        "sleeps": "The copy that had nobody in its queue has not ended: it sleeps in accept() or "
        "another call. A handler that only sets a flag does not wake it, for Python calls again "
        "what was interrupted.",
        "status": "The copy has ended, but not by itself and with status 0: it was {status}. A "
        "negative number is that of the signal which ended it.",
        "silent": "Not every client was answered. Each connection gets the name of the copy, and "
        "is then closed.",
    },
)
def drainer(trial: Trial) -> None:
    """Both copies are stopped, clients come, one copy is told to end, and both may go on."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")
    one, two = trial.shuffled(["left", "right"])

    with trial.step(
        "Two copies of your program start, named {one} and {two}",
        expect=exactly(2, "listeners"),
        why="Each has a socket with SO_REUSEPORT, and a queue of its own.",
        one=one,
        two=two,
    ) as step:
        leaving = trial.start(one, server, port, one, user="alice")
        staying = trial.start(two, server, port, two, user="alice")
        trial.settle(lambda: len(server.queues(port)) == 2)
        step.measured(len(server.queues(port)))

    serve(trial, client, server)
    waiting = fill(trial, client, server, leaving, staying)
    answers = leave(trial, client, leaving, staying)
    judge(trial, answers, waiting)
    see_end(trial, leaving)
    serve(trial, client, server)
    end_idle(trial, staying)


def fill(trial: Trial, client: Process, server: Host, leaving: Program, staying: Program) -> int:
    """Let clients wait while nobody accepts; returns how many wait at the copy that will leave."""
    port = trial.port(8080)
    with trial.step(
        "Both copies are stopped (SIGSTOP), and {count} clients connect",
        expect=exactly(CLIENTS, "connections that wait"),
        why="Handshakes are the kernel's: connections come into the queues, whatever the programs "
        "do (inet_csk_complete_hashdance()).",
        count=CLIENTS,
    ) as step:
        for program in (leaving, staying):
            trial.stop(program.host, trial.family(program))
        client.load((server.ipv4, port), CLIENTS, clients=CLIENTS)
        trial.settle(lambda: sum(server.queues(port).values()) == CLIENTS, seconds=3)
        waiting = sum(server.queues(port).values())
        step.advise("short", count=CLIENTS, waiting=waiting)
        step.measured(waiting)

    with trial.step(
        "How many of them wait at {name}, which is to leave?",
        expect=between(FEWEST, CLIENTS - FEWEST, "connections in its queue"),
        why="A hash has chosen for each (reuseport_select_sock()).",
        name=leaving.name,
    ) as step:
        server.show()
        queues = server.queues(port)
        waiting = sum(queues[inode] for inode in trial.listeners(leaving, port))
        step.measured(waiting)
    return waiting


def leave(trial: Trial, client: Process, leaving: Program, staying: Program) -> Answers:
    """The copy gets SIGTERM before it can accept any of those who wait."""
    with trial.step(
        "No more clients come; {name} gets SIGTERM, and both may go on (SIGCONT)",
        expect=exactly(CLIENTS, "clients whose connection came to an end"),
        why="The signal waits for it, and is there as soon as it runs.",
        name=leaving.name,
    ) as step:
        trial.expect_end(leaving)
        leaving.kill(SIGTERM)
        for program in (leaving, staying):
            trial.go_on(program.host, trial.family(program))
        answers = client.stop_load(after=CLIENTS)
        step.measured(answers.asked)
    return answers


def judge(trial: Trial, answers: Answers, waiting: int) -> None:
    """Everybody who waited was answered."""
    with trial.step(
        "What came of the {count} clients?",
        expect=exactly(CLIENTS, "answers"),
        why="close() of a listener resets what waits there (inet_csk_listen_stop()). Whoever was "
        "accepted before is safe.",
        count=CLIENTS,
    ) as step:
        step.advise("silent")
        step.advise("lost", when=answers.reset > 0, waiting=waiting, reset=answers.reset)
        step.measured(answers.answered, answers.parts)


def see_end(trial: Trial, leaving: Program) -> None:
    """The copy ends by itself."""
    with trial.step(
        "Has {name} ended?",
        expect=exactly(0, "processes left of it"),
        why="Nobody waits any more, and there is nothing left to do.",
        name=leaving.name,
    ) as step:
        leaving.host.show()
        trial.settle(lambda: leaving.status is not None and not trial.family(leaving))
        step.advise("stays")
        step.measured(len(trial.family(leaving)))

    with trial.step(
        "How has it ended?",
        expect=exactly(1, "end with status 0"),
        why="A supervisor that has sent SIGTERM waits for this, and takes any other status for a "
        "failure.",
    ) as step:
        leaving.host.show()
        status = leaving.status or 0
        step.advise("status", status=status)
        step.measured(int(status == 0))


def end_idle(trial: Trial, staying: Program) -> None:
    """The other copy is told to end while it sleeps."""
    port = trial.port(8080)
    with trial.step(
        "{name} gets SIGTERM too, while nobody waits and it sleeps",
        expect=exactly(0, "listeners"),
        why="accept() sleeps until a connection comes (inet_csk_wait_for_connect()). A signal "
        "interrupts it, but a library may call it again at once.",
        name=staying.name,
    ) as step:
        trial.expect_end(staying)
        trial.settle(lambda: trial.are_asleep(staying.host, trial.family(staying)), seconds=2)
        staying.kill(SIGTERM)
        trial.settle(lambda: not staying.host.queues(port))
        step.advise("sleeps")
        step.measured(len(staying.host.queues(port)))


def serve(trial: Trial, client: Process, server: Host) -> None:
    """Clients are answered."""
    with trial.step(
        "{count} clients come",
        expect=exactly(CLIENTS, "answers"),
        why="Whoever listens gets its share of them.",
        count=CLIENTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, trial.port(8080)), CLIENTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)
