"""The check of reload: SIGHUP comes while a client is being served and others wait."""

from collections.abc import Sequence
from signal import SIGHUP

from labs.engine.challenge import (
    Address,
    Host,
    Process,
    ProcessRow,
    Program,
    Socket,
    Trial,
    challenge,
    exactly,
)

FILE = "answer"
OLD, NEW = "one", "two"
LEAST = 2  # workers
WAITING = 8
REQUESTS = 20


@challenge(
    "reload",
    title="Read the configuration anew at SIGHUP, as nginx does, and lose no client",
    hints=(
        (
            "What is it that has to change at a reload? The listener need not, nor the master. "
            "Look at what the lab says of the old workers while a client is with them."
        ),
        (
            "The master keeps the listener, reads the file, forks new workers, and tells the old "
            "ones to finish: to accept nobody any more, to answer the clients that they have, and "
            "to end."
        ),
        (
            "A worker that waits in accept() does not see a flag. Let it wait in select() for the "
            "listener and for one end of a socketpair(), into which the handler of its signal "
            "writes. The master waits for SIGHUP by signal.sigwait()."
        ),
    ),
    advice={
        "ended": "SIGHUP has ended the program: that is what it does where there is no handler.",
        "dropped": "A client that a worker had accepted got no answer: the worker has ended "
        "without it. Workers are to finish first.",
        "queue": "The clients that waited were lost: the listener was closed. A reload needs no "
        "other one.",
        "old": "SIGHUP has changed nothing: all clients still get the old answer.",
        "mixed": "Some clients still get the old answer: old workers have not ended, and accept. A "
        "worker that waits in accept() is not woken by a flag.",
        "new": "The client that had come before the reload got the new answer. Its worker is to "
        "finish with the configuration that it has begun with.",
        "left": "Old workers have nobody to serve any more, and have not ended.",
    },
)
def reload(trial: Trial) -> None:
    """A master gets a new configuration and SIGHUP."""
    port = trial.port(8080)
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    client, slow = (elsewhere.process(name, user="bob") for name in ("client", "slow"))
    address = (server.ipv4, port)

    with trial.step(
        "Your program starts with a file that says '{word}'",
        expect=exactly(REQUESTS, "answers that say so"),
        why="The master opens the port, its workers serve it.",
        word=OLD,
    ) as step:
        trial.write_text(server, FILE, OLD)
        program = trial.start("master", server, port, f"/tmp/{FILE}", user="alice")
        trial.settle(lambda: len(server.holders(port)) > LEAST)
        before = {*server.queues(port)}
        step.measured(count_answers(trial, client, address, OLD))

    with trial.step(
        "A client is being served, {count} wait, the file says '{word}', and SIGHUP comes",
        expect=exactly(WAITING, "answers to those that wait"),
        why="They are in the queue of the listener, and the next accept() is a new worker's, or an "
        "old one's: both will do.",
        count=WAITING,
        word=NEW,
    ) as step:
        held = slow.connect(address)
        trial.settle(lambda: count_accepted(server, port) == 1)
        trial.write_text(server, FILE, NEW)
        family = trial.family(program)
        processes = len(family)
        trial.stop(server, family)
        waiting = client.connect_many(address, WAITING)
        trial.signal(server, [program], SIGHUP)
        trial.go_on(server, family)
        answers = trial.speak(waiting, "\n")
        step.advise("dropped")
        step.advise("queue", when=not before <= {*server.queues(port)})
        step.advise("ended", when=program.status is not None)
        step.measured(sum(map(bool, answers)))

    with trial.step(
        "{count} more clients come, and the new workers are stopped for a moment",
        expect=exactly(REQUESTS, "answers that say the new word"),
        why="An old worker that accepts no more gets nobody, even when nobody else is there. The "
        "clients wait for the new ones, in the same queue.",
        count=REQUESTS,
    ) as step:
        found = ask_without_new_workers(trial, client, program, family, port)
        step.advise("mixed")
        step.advise("old", when=not found)
        step.advise("ended", when=program.status is not None)
        step.measured(found)
    finish(trial, program, held, processes)


def finish(trial: Trial, program: Program, held: Socket, processes: int) -> None:
    """The client of before the reload gets its answer, and its worker ends."""
    server = program.host
    with trial.step(
        "The client that came before the reload speaks",
        expect=exactly(1, "answer that says the old word"),
        why="An accepted connection is its worker's alone. So the old worker stays until it is "
        "done, with the configuration that it has.",
    ) as step:
        (answer,) = trial.speak([held], "\n")
        step.advise("dropped")
        step.advise("new", when=answer == NEW)
        step.measured(int(answer == OLD))

    with trial.step(
        "Nobody is left for the old workers",
        expect=exactly(processes, "processes, as before"),
        why="Each reload leaves as many as there were. Otherwise they would become more and more.",
    ) as step:
        server.show()
        trial.settle(lambda: len(trial.family(program)) == processes)
        step.advise("left", when=len(trial.family(program)) > processes)
        step.measured(len(trial.family(program)))


def ask_without_new_workers(
    trial: Trial, client: Process, program: Program, family: Sequence[ProcessRow], port: int
) -> int:
    """Stop the new workers while clients come, which an old one may take; how many it does not."""
    server, old = program.host, {row.pid for row in family}
    workers = old - {program.pid}
    # One old worker has a client still; the others are to end.
    trial.settle(lambda: sum(row.pid in workers for row in trial.family(program)) <= 1, seconds=2)
    new = [row for row in trial.family(program) if row.pid not in old]
    trial.stop(server, new)
    come = client.connect_many((server.ipv4, port), REQUESTS)
    trial.settle(lambda: count_accepted(server, port) > 1, seconds=0.3)
    trial.go_on(server, new)
    return trial.speak(come, "\n").count(NEW)


def count_answers(trial: Trial, client: Process, address: Address, word: str) -> int:
    """How many of some clients get this answer."""
    return trial.ask(client, address, REQUESTS, "\n").by.get(word, 0)


def count_accepted(server: Host, port: int) -> int:
    """How many connections a process has: one that waits in a queue has no inode yet."""
    return sum(row.state == "ESTABLISHED" and row.inode > 0 for row in server.sockets(port))
