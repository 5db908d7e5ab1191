"""The check of prefork: the workers become more and fewer by signals, and no client is lost."""

from signal import SIGKILL, SIGTTIN, SIGTTOU

from labs.engine.challenge import Host, Process, ProcessRow, Program, Trial, challenge, exactly

WORKERS = 2
WAITING = 8
REQUESTS = 20


@challenge(
    "prefork",
    title="More workers and fewer by signal, as gunicorn does, and no client lost",
    hints=(
        (
            "The arbiter knows how many workers there are to be. A signal changes that number; all "
            "that is left is to compare it with how many there are."
        ),
        (
            "A worker that is one too many is told to finish, not killed. And a worker that has "
            "ended is replaced only if there are fewer than there are to be: a worker that was "
            "told to go is one that nobody misses."
        ),
        (
            "Block the signals in the arbiter, and wait for SIGTTIN, SIGTTOU and SIGCHLD by "
            "signal.sigwait(). After each: waitpid() without blocking until nobody has ended, fork "
            "while there are too few, SIGTERM to those that are too many. Lift the block in the "
            "workers."
        ),
    ),
    advice={
        "more": "After SIGTTIN there are {found} workers, not {wanted}.",
        "fewer": "After SIGTTOU there are {found} workers, not {wanted}. A worker that has gone "
        "must not be replaced by mistake, and one that waits in accept() has to be woken.",
        "second": "There is another listener on the port now: a new worker has made one. What "
        "waits there is lost when that worker goes.",
        "dropped": "A client was with each worker when SIGTTOU came, and not all were answered: "
        "the worker that goes has to finish first.",
        "dead": "A worker was killed, and there are {found} now, not {wanted}: it was not "
        "replaced, or too often.",
        "last": "SIGTTOU has taken the last worker as well, and nobody serves any more.",
        "silent": "Not every client was answered.",
    },
)
def prefork(trial: Trial) -> None:
    """Workers come and go under an arbiter."""
    port = trial.port(8080)
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    client, slow = (elsewhere.process(name, user="bob") for name in ("client", "slow"))

    with trial.step(
        "Your program starts {count} workers on port {port}",
        expect=exactly(WORKERS, "workers"),
        why="They inherit the listener that the arbiter has made.",
        count=WORKERS,
        port=port,
    ) as step:
        program = trial.start("arbiter", server, port, WORKERS, "program", user="alice")
        trial.settle(lambda: len(server.queues(port)) > 0 and count(program) == WORKERS)
        step.measured(count(program))

    change(trial, program, port)
    let_one_go(trial, client, slow, program, port)

    with trial.step(
        "A worker is killed",
        expect=exactly(WORKERS, "workers"),
        why="Nobody has told it to go, and so the arbiter replaces it.",
    ) as step:
        victim = trial.shuffled(find_workers(trial, program))[0]
        trial.signal(server, [victim], SIGKILL)
        trial.settle(lambda: victim.pid not in program.children() and count(program) == WORKERS)
        step.advise("dead", found=count(program), wanted=WORKERS)
        step.measured(count(program))
    keep_the_last(trial, client, program, port)


def change(trial: Trial, program: Program, port: int) -> None:
    """One more worker, by a signal."""
    server = program.host
    with trial.step(
        "SIGTTIN comes: one worker more",
        expect=exactly(WORKERS + 1, "workers"),
        why="It is forked as the others were, and has the same listener.",
    ) as step:
        before = {*server.queues(port)}
        send(trial, program, SIGTTIN)
        trial.settle(lambda: count(program) == WORKERS + 1)
        found = count(program)
        step.advise("more", found=found, wanted=WORKERS + 1)
        step.measured(found)

    with trial.step(
        "The port has the listener that it had",
        expect=exactly(1, "listener"),
        why="One queue for all: to add a worker binds nothing.",
    ) as step:
        server.show()
        # The new worker may still be on its way to a listener of its own.
        trial.settle(lambda: trial.are_asleep(server, trial.family(program)), seconds=1)
        step.advise("second")
        step.measured(len(before | {*server.queues(port)}))


def let_one_go(trial: Trial, client: Process, slow: Process, program: Program, port: int) -> None:
    """One worker fewer, while each has a client and others wait."""
    server = program.host
    with trial.step(
        "Each worker has a client, {count} wait, and SIGTTOU comes; then all of them speak",
        expect=exactly(WORKERS + 1 + WAITING, "answers"),
        why="The worker that goes answers the client that it has. What waits is in the queue of "
        "all.",
        count=WAITING,
    ) as step:
        held = slow.connect_many((server.ipv4, port), WORKERS + 1)
        trial.settle(lambda: count_accepted(server, port) == len(held), seconds=2)
        waiting = client.connect_many((server.ipv4, port), WAITING)
        send(trial, program, SIGTTOU)
        answers = trial.speak([*held, *waiting], "\n")
        step.advise("dropped")
        step.measured(sum(map(bool, answers)))

    with trial.step(
        "One worker has gone",
        expect=exactly(WORKERS, "workers"),
        why="It has ended when nobody was left with it, and the arbiter does not miss it.",
    ) as step:
        server.show()
        trial.settle(lambda: count(program) == WORKERS)
        # One that is replaced by mistake is replaced within this time, or at the next signal.
        trial.settle(lambda: count(program) != WORKERS, seconds=0.3)
        found = count(program)
        step.advise("fewer", found=found, wanted=WORKERS)
        step.measured(found)


def keep_the_last(trial: Trial, client: Process, program: Program, port: int) -> None:
    """SIGTTOU does not take the last worker."""
    server = program.host
    with trial.step(
        "SIGTTOU comes {count} times, and then {requests} clients",
        expect=exactly(REQUESTS, "answers"),
        why="gunicorn's arbiter keeps one worker, whatever it is told.",
        count=WORKERS,
        requests=REQUESTS,
    ) as step:
        for _ in range(WORKERS):
            had = count(program)
            send(trial, program, SIGTTOU)
            # The last one is to stay: that it goes would be seen within this time.
            wait_for_less(trial, program, had, seconds=5 if had > 1 else 0.5)
        is_left = bool(count(program))
        # Where nobody is left nobody answers: that need not be waited for.
        address, requests = (server.ipv4, port), REQUESTS if is_left else 0
        answers = trial.ask(client, address, requests, "\n")
        step.advise("silent")
        step.advise("last", when=not is_left)
        step.measured(answers.answered, answers.parts)


def send(trial: Trial, program: Program, number: int) -> None:
    """Send a signal to the arbiter, and wait until it has done something about it and sleeps."""
    before = trial.threads(program.host, program).sleeps
    trial.signal(program.host, [program], number)
    trial.settle(
        lambda: (
            trial.threads(program.host, program).sleeps > before
            and trial.are_asleep(program.host, [program])
        ),
        seconds=1,
    )


def wait_for_less(trial: Trial, program: Program, had: int, seconds: float) -> None:
    """Wait until the arbiter has fewer children than it had."""
    trial.settle(lambda: count(program) < had, seconds=seconds)


def find_workers(trial: Trial, program: Program) -> list[ProcessRow]:
    """The processes that the arbiter has forked."""
    return [row for row in trial.family(program) if row.pid != program.pid]


def count(program: Program) -> int:
    """How many children the arbiter has."""
    return len(program.children())


def count_accepted(server: Host, port: int) -> int:
    """How many connections a process has: one that waits in a queue has no inode yet."""
    return sum(row.state == "ESTABLISHED" and row.inode > 0 for row in server.sockets(port))
