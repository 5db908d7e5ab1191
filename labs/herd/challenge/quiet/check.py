"""The check of quiet: four processes serve, and a connection wakes the one that gets it alone."""

from dataclasses import dataclass
from signal import SIGKILL
from time import sleep

from labs.engine.challenge import (
    Host,
    Process,
    ProcessRow,
    Program,
    Trial,
    between,
    challenge,
    exactly,
)

PROCESSES = 4
CONNECTIONS = 40
MOST = 50  # processes that a sandbox lets a program have

# One that waits by a timeout of half a second and more is not held against it.
IDLE_SECONDS = 0.5
FEW = 2 * PROCESSES

# Nothing of this is chance. A herd wakes three in vain for each connection, a lock the next who
# gets it; and where one is woken, none. What is left for a process to sleep once more now and then,
# as an interpreter's threads do, is half a wake-up for each connection.
SPARE = CONNECTIONS // 2


@dataclass(frozen=True)
class Woken:
    """What connections did that came when all slept: how many were answered, who woke in vain.

    `strange` is an answer that was no pid of a process that has a listener.
    """

    answered: int
    in_vain: dict[str, float]
    strange: str


@challenge(
    "quiet",
    title="Wait with four processes, and let a connection wake only one of them",
    hints=(
        (
            "Run the lab, and compare its six ways to wait by their wake-ups. Which of them have "
            "one for each connection?"
        ),
        (
            "epoll and poll tell everybody who watches the listener. A blocking accept() does not: "
            "those who wait in it stand in a queue. What else makes waiters exclusive, or leaves "
            "only one at a listener?"
        ),
        (
            "Three ways: a blocking accept() in each process; EPOLLEXCLUSIVE when the listener is "
            "added to each process's own epoll; or a listener for each process, made after the "
            "fork, with SO_REUSEPORT."
        ),
    ),
    advice={
        "few": "Only {count} processes have a listener on port {port}: four have to wait.",
        "busy": "Some of your processes run although nobody has connected: they ask again and "
        "again. A process that waits sleeps inside a system call until it is woken.",
        "polls": "Nobody came, and your processes woke {count} times in half a second: they wait "
        "with a short timeout, and look again and again.",
        "strange": "A client was answered {answer}: that is not the pid of a process of yours that "
        "has a listener.",
        "silent": "Not every client was answered. Each connection gets the pid of the process that "
        "has accepted it, and is then closed.",
        "herd": "For each connection others woke as well: {count} times in vain. epoll, poll and "
        "select tell all who watch a listener, unless they ask to be exclusive; and the end of a "
        "file's lock wakes all who wait for it.",
        "next": "For each connection about one more process woke than was needed, {count} in all: "
        "the one that a lock is handed to, for example.",
        "idle": "{count} different processes have answered and were killed, and then nobody did: "
        "the others have a listener and do not serve it, or a dead one's listener is still open "
        "and keeps its share.",
    },
)
def quiet(trial: Trial) -> None:
    """All sleep; connections come one by one; then whoever has answered is killed."""
    port = trial.port(8080)
    server = trial.host("server")
    client = server.process("client", user="bob")  # it sees on its own host who sleeps
    program = start(trial, server, port)
    rest(trial, program, port)
    wake(trial, program, client, port)
    replace(trial, program, client, port)


def start(trial: Trial, server: Host, port: int) -> Program:
    """Start the program: four processes wait."""
    with trial.step(
        "Your program starts, and its processes listen on port {port}",
        expect=between(PROCESSES, MOST, "processes that have a listener"),
        why="Whether they share one listener or have one each, is up to you.",
        port=port,
    ) as step:
        program = trial.start("quiet", server, port, user="alice")
        trial.settle(lambda: len(server.holders(port)) >= PROCESSES)
        count = len(server.holders(port))
        step.advise("few", count=count, port=port)
        step.measured(count)
    return program


def rest(trial: Trial, program: Program, port: int) -> None:
    """As long as nobody comes, nobody wakes."""
    server = program.host

    def count_awake() -> int:
        rows = server.holders(port)
        return sum(not trial.threads(program.host, row).all_sleep for row in rows)

    with trial.step(
        "Nobody has connected yet",
        expect=exactly(0, "processes that do not sleep"),
        why="A process that waits in a system call takes no processor time.",
    ) as step:
        server.show()
        trial.settle(lambda: not count_awake(), seconds=3)
        step.advise("busy")
        step.measured(count_awake())

    with trial.step(
        "And nobody connects for half a second",
        expect=between(0, FEW, "wake-ups"),
        why="The kernel counts each time a process goes to sleep (voluntary_ctxt_switches).",
    ) as step:
        server.show()
        before = count_sleeps(trial, program, port)
        sleep(IDLE_SECONDS)
        count = count_sleeps(trial, program, port) - before
        step.advise("polls", count=count)
        step.measured(count)


def count_sleeps(trial: Trial, program: Program, port: int) -> int:
    """How often all that have a listener have gone to sleep."""
    return sum(trial.threads(program.host, row).sleeps for row in program.host.holders(port))


def wake(trial: Trial, program: Program, client: Process, port: int) -> None:
    """Connections come one by one, each when all sleep."""
    with trial.step(
        "{count} connections come, each when all of them sleep",
        expect=between(0, SPARE, "wake-ups of processes that did not get the connection"),
        why="A connection wakes those who wait at its listener (sock_def_readable()). Of the "
        "exclusive waiters it wakes one (__wake_up_common()).",
        count=CONNECTIONS,
    ) as step:
        woken = ask_sleepers(trial, program, client, port)
        count = round(sum(woken.in_vain.values()))
        step.advise("herd", when=count > CONNECTIONS * 3 // 2, count=count)
        step.advise("next", when=count <= CONNECTIONS * 3 // 2, count=count)
        step.measured(count, woken.in_vain)

    with trial.step(
        "Were all of them answered?",
        expect=exactly(CONNECTIONS, "answers with the pid of one of them"),
        why="The process that was woken has got the connection.",
    ) as step:
        client.host.show()
        step.advise("silent")
        step.advise("strange", when=bool(woken.strange), answer=woken.strange)
        step.measured(woken.answered)


def ask_sleepers(trial: Trial, program: Program, client: Process, port: int) -> Woken:
    """Connect again and again, each time when all sleep, until one is not answered."""
    waiting = program.host.holders(port)
    names = {row.pid: f"pid {row.pid}" for row in waiting}
    in_vain = dict.fromkeys(names.values(), 0.0)
    owners: dict[str, int] = {}
    for done in range(CONNECTIONS):
        answers = client.request_from_sleep((program.host.ipv4, port), 1, waiting)
        answer = next(iter(answers.by), "")
        if answer not in owners:
            row = trial.find(program, answer)
            owners[answer] = row.pid if row else 0
        if owners[answer] not in names:
            return Woken(done, in_vain, answer)
        for pid, name in names.items():
            in_vain[name] += answers.woken[str(pid)] if pid != owners[answer] else 0
    return Woken(CONNECTIONS, in_vain, "")


def replace(trial: Trial, program: Program, client: Process, port: int) -> None:
    """Kill whoever answers, so that it has to be another one the next time."""
    server = program.host
    killed: list[ProcessRow] = []
    with trial.step(
        "A client comes, and the process that answers is killed; and so on, {count} times",
        expect=exactly(PROCESSES, "processes that answered"),
        why="Only one wakes, and still each of them is there for the next connection.",
        count=PROCESSES,
    ) as step:
        trial.expect_end(program)
        while len(killed) < PROCESSES:
            answers = trial.ask(client, (server.ipv4, port), 1)
            row = trial.find(program, next(iter(answers.by), ""))
            if row is None:
                step.advise("idle", count=len(killed))
                break
            kill(trial, program, row)
            killed.append(row)
        step.measured(len(killed))


def kill(trial: Trial, program: Program, victim: ProcessRow) -> None:
    """Kill a process of the program, and wait until it is gone."""
    trial.signal(program.host, [victim], SIGKILL)
    trial.settle(lambda: victim.pid not in [row.pid for row in program.host.processes()])
