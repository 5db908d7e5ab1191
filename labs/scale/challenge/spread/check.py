"""The check of spread: silent clients and busy workers hold up nobody."""

from collections.abc import Sequence

from labs.engine.challenge import Host, Process, ProcessRow, Program, Trial, challenge, exactly

WORKERS = 3
SILENT = 8  # clients, more than workers
# In a reuseport group each of them goes to a worker that is busy with probability 2/3: all are
# answered in 1 of 10,000 million runs.
CLIENTS = 20


@challenge(
    "spread",
    title="Be held up by nobody: not by slow clients, and not by a busy worker",
    hints=(
        (
            "Two things can hold up a client: a worker that waits for another client, and a queue "
            "in front of a worker that is busy. They need two remedies."
        ),
        (
            "Look at the step of the lab in which each connection waits 5 ms: waiting needs no "
            "processor, but it keeps a process from its next client. So within a worker clients "
            "have to wait side by side. Between workers one queue lets whoever is free take the "
            "next."
        ),
        (
            "One listener, then fork(). In each worker a thread for each connection: accept() in "
            "the first thread, and the rest in another (threading.Thread(..., daemon=True))."
        ),
    ),
    advice={
        "few": "Fewer than {count} processes have a listener on the port.",
        "held": "Clients that say nothing hold up the others: each keeps a worker to itself, and "
        "there are more of them than workers.",
        "queue": "Clients wait at a worker that is busy, though another one is free: each worker "
        "has a queue of its own, and the hash asks nobody whether it is free.",
        "alone": "A worker did not serve while the others were busy. It waits for something that "
        "they have, or does not accept at all.",
        "late": "Clients that had been silent were not answered when they spoke at last.",
    },
)
def spread(trial: Trial) -> None:
    """Clients are silent, and workers are busy."""
    port = trial.port(8080)
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    client, slow = (elsewhere.process(name, user="bob") for name in ("client", "slow"))
    address = (server.ipv4, port)

    with trial.step(
        "Your program starts {count} workers on port {port}",
        expect=exactly(WORKERS, "workers"),
        why="One process uses one processor at a time, whatever its threads do in Python.",
        count=WORKERS,
        port=port,
    ) as step:
        program = trial.start("program", server, port, WORKERS, "program", user="alice")
        trial.settle(lambda: len(find_workers(program, port)) >= WORKERS)
        step.advise("few", count=WORKERS)
        step.measured(min(len(find_workers(program, port)), WORKERS))

    with trial.step(
        "{silent} clients connect and say nothing, then {count} come that speak",
        expect=exactly(CLIENTS, "answers"),
        why="A client that is silent costs memory, and no processor. Whoever waits for it in "
        "recv() is there for nobody else.",
        silent=SILENT,
        count=CLIENTS,
    ) as step:
        silent = slow.connect_many(address, SILENT)
        come = client.connect_many(address, CLIENTS)
        answers = trial.speak(come, "\n")
        step.advise("held")
        step.measured(sum(map(bool, answers)))

    with trial.step(
        "All workers but one are busy, each in turn is the free one, and {count} clients come each "
        "time",
        expect=exactly(CLIENTS * WORKERS, "answers"),
        why="With one queue the one that is free takes them all. A worker is busy here by SIGSTOP.",
        count=CLIENTS,
    ) as step:
        workers = find_workers(program, port)
        answered = ask_each_alone(trial, client, server, port, workers)
        step.advise("alone")
        step.advise("queue", when=len(server.queues(port)) > 1)
        step.measured(answered)

    with trial.step(
        "The silent ones speak at last",
        expect=exactly(SILENT, "answers"),
        why="Each had been accepted, and waited for by somebody all the time.",
    ) as step:
        step.advise("late")
        step.measured(sum(map(bool, trial.speak(silent, "\n"))))


def find_workers(program: Program, port: int) -> list[ProcessRow]:
    """The processes that have a listener: the first one only where it has to be one of them."""
    holders = program.host.holders(port)
    others = [row for row in holders if row.pid != program.pid]
    return others if len(others) >= WORKERS else holders


def ask_each_alone(
    trial: Trial, client: Process, server: Host, port: int, workers: Sequence[ProcessRow]
) -> int:
    """Stop all workers but one, each in turn, and let clients come; how many are answered."""
    answered = 0
    for free in trial.shuffled(workers):
        busy = [row for row in workers if row.pid != free.pid]
        trial.stop(server, busy)
        come = client.connect_many((server.ipv4, port), CLIENTS)
        got = sum(map(bool, trial.speak(come, "\n")))
        trial.go_on(server, busy)
        answered += got
        if got < CLIENTS:
            break
    return answered
