"""The check of respawn: workers are killed while clients wait, and others take their place."""

from collections.abc import Sequence
from signal import SIGKILL

from labs.engine.challenge import Host, Process, ProcessRow, Program, Trial, challenge, exactly

TIMES = 5
WAITING = 8
REQUESTS = 40


@challenge(
    "respawn",
    title="Replace a worker that dies, and let no client notice",
    hints=(
        (
            "Ask for each process which descriptors it has. When the worker is killed, the kernel "
            "closes all of them. What is left of the listener then?"
        ),
        (
            "A listener and its queue live until the last descriptor is closed, whoever has it. "
            "It need not be the process that accepts."
        ),
        (
            "Open the listener before fork(). The supervisor keeps it, never accepts, and does "
            "nothing but wait() and fork() in a loop; the child inherits it and serves."
        ),
    ),
    advice={
        "single": "The program has no child that serves: if its one process is killed, there is "
        "nobody to start another.",
        "closed": "The clients were reset: the listener on port {port} was closed with the worker, "
        "for nobody else had it. The next worker has opened another.",
        "never": "The clients are still waiting: no worker has come in the place of the one that "
        "was killed.",
        "once": "A worker was replaced, but not every time: number {number} was not.",
        "ended": "The supervisor has ended when its worker did, and the listener with it.",
        "silent": "Not every client was answered. Each connection gets the server's name, and is "
        "then closed.",
    },
)
def respawn(trial: Trial) -> None:
    """A supervisor's workers are killed, again and again."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Your program starts, and serves port {port}",
        expect=exactly(REQUESTS, "answers"),
        why="The worker accepts. Who made the listener cannot be told from that.",
        port=port,
    ) as step:
        program = trial.start("supervisor", server, port, "program", user="alice")
        trial.settle(lambda: len(trial.listeners(program, port)) > 0)
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent", when=bool(answers.asked - answers.refused))
        step.measured(answers.answered, answers.parts)

    with trial.step(
        "Its workers are killed {times} times, each time while {count} clients wait",
        expect=exactly(TIMES * WAITING, "answers"),
        why="The supervisor has the listener too, and so its queue outlives the worker. Nobody is "
        "refused and nobody is reset: clients wait for the next accept().",
        times=TIMES,
        count=WAITING,
    ) as step:
        before, had_workers = trial.listeners(program, port), bool(find_workers(trial, program))
        answered = 0
        for number in range(1, TIMES + 1):
            got = kill_workers(trial, client, program, port)
            answered += got
            if got < WAITING:
                step.advise("never")
                step.advise("once", when=number > 1, number=number)
                step.advise("closed", when=server.queues(port).keys() != {*before}, port=port)
                step.advise("ended", when=program.status is not None)
                step.advise("single", when=not had_workers)
                break
        step.measured(answered)

    with trial.step(
        "{count} more clients come",
        expect=exactly(REQUESTS, "answers"),
        why="A worker is there as at the beginning. One listener has served them all.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)


def kill_workers(trial: Trial, client: Process, program: Program, port: int) -> int:
    """Stop the workers, let clients come and wait, and kill them; how many are answered then."""
    server = program.host
    trial.settle(lambda: bool(find_workers(trial, program)), seconds=1)
    workers = find_workers(trial, program)
    if not workers or not server.queues(port):
        return 0
    trial.stop(server, workers)
    waiting = client.connect_many((server.ipv4, port), WAITING)
    trial.signal(server, workers, SIGKILL)
    wait_for_ends(trial, server, [worker.pid for worker in workers])
    return sum(bool(answer) for answer in trial.speak(waiting))


def find_workers(trial: Trial, program: Program) -> list[ProcessRow]:
    """The processes of a program but the first."""
    return [row for row in trial.family(program) if row.pid != program.pid]


def wait_for_ends(trial: Trial, server: Host, pids: Sequence[int]) -> None:
    """Wait until these processes hold nothing any more."""
    trial.settle(lambda: not any(row.pid in pids and row.sockets for row in server.processes()))
