"""The check of crew: one listener, four processes that answer, and what waits is never lost."""

from signal import SIGKILL

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

CREW = 4
WAITING = 20
REQUESTS = 12
GRACE = 0.5  # seconds: for a parent that looks after its children now and then
MOST = 50  # processes that a sandbox lets a program have


@challenge(
    "crew",
    title="Serve one listener with four processes, any of which may be killed",
    hints=(
        (
            "A port is bound once. Look at the first steps of the lab: how did the child come by "
            "its listener?"
        ),
        (
            "fork() copies descriptors. What is open before the fork is one socket for all, with "
            "one queue; what is opened after it is a socket of its own."
        ),
        (
            "Make the socket, bind it and call listen(); fork four times; let each child call "
            "accept() in a loop. Nobody closes the listener, and nobody ends because another has "
            "ended."
        ),
    ),
    advice={
        "refused": "bind() was refused: a process of yours asked for port {port} while another "
        "one's socket had it. They need one socket, and not one each.",
        "apart": "Port {port} has {count} listeners, and so as many queues. What waits in one of "
        "them is lost with its process.",
        "alone": "The listener is held by {count} of your processes, fewer than were asked for. "
        "fork() hands it down only if it is there before.",
        "strange": "A client was answered {answer}: that is not the pid of a process of yours.",
        "idle": "{count} different processes have answered, were stopped, and then nobody did. "
        "Whoever holds the listener has to accept connections too.",
        "short": "Only {count} connections fit into the queue. listen(n) makes it n + 1 long.",
        "lost": "One process was killed, and the others were to go on: they have the same "
        "listener. Whoever waited in its queue was to be answered.",
    },
)
def crew(trial: Trial) -> None:
    """Four processes answer; one that did is killed while clients wait, then the first one."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")
    program = start(trial, server, port)
    answered = find_crew(trial, program, client, port)
    kill_one(trial, program, client, port, answered[0])

    with trial.step(
        "The first process of your program is killed as well, if it is still there",
        expect=exactly(REQUESTS, "answers"),
        why="The parent has no part in what its children have: a socket lives until the last "
        "descriptor of it is closed.",
    ) as step:
        if program.status is None:
            program.kill(SIGKILL)
            trial.settle(lambda: program.status is not None)
        step.advise("lost")
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.measured(answers.answered, answers.parts)


def start(trial: Trial, server: Host, port: int) -> Program:
    """Start the program: one listener, in the hands of four processes or more."""
    with trial.step(
        "Your program starts and listens on port {port}",
        expect=exactly(1, "listeners on the port"),
        why="One socket, one inode, one queue.",
        port=port,
    ) as step:
        program = trial.start("crew", server, port, user="alice")
        trial.settle(lambda: len(server.holders(port)) >= CREW)
        count = len(server.queues(port))
        step.advise("apart", when=count > 1, port=port, count=count)
        step.measured(count)

    with trial.step(
        "How many processes hold the listener?",
        expect=between(CREW, MOST, "processes that hold the listener"),
        why="fork() has copied the descriptor into each of them (dup_fd()).",
    ) as step:
        server.show()
        count = len(server.holders(port))
        step.advise("alone", count=count)
        step.advise("refused", when="Address already in use" in program.output, port=port)
        step.measured(count)
    return program


def find_crew(trial: Trial, program: Program, client: Process, port: int) -> list[ProcessRow]:
    """Stop whoever answers, so that it has to be another one the next time: who has answered."""
    found: list[ProcessRow] = []
    with trial.step(
        "A client comes, and the process that answers is stopped; and so on, {count} times",
        expect=exactly(CREW, "processes that answered"),
        why="A process that is stopped takes nothing from the queue, and the others do. In a "
        "sandbox a process has another pid than on the host (NSpid in /proc/PID/status).",
        count=CREW,
    ) as step:
        while len(found) < CREW:
            answers = trial.ask(client, (program.host.ipv4, port), 1)
            answer = next(iter(answers.by), "")
            row = trial.find(program, answer)
            if row is None or row.pid in [other.pid for other in found]:
                step.advise("idle", count=len(found))
                step.advise("strange", when=bool(answer), answer=answer)
                break
            trial.stop(program.host, [row])
            found.append(row)
        step.measured(len(found))
    return found


def kill_one(
    trial: Trial, program: Program, client: Process, port: int, victim: ProcessRow
) -> None:
    """Clients wait while all are stopped; one is killed, and the others go on."""
    server = program.host
    with trial.step(
        "All are stopped, and {count} clients connect",
        expect=exactly(WAITING, "connections in the queue"),
        why="The kernel completes connections without the program. They wait in the socket's "
        "accept queue, which is as long as listen() has said (sk_acceptq_is_full()).",
        count=WAITING,
    ) as step:
        trial.stop(server, server.holders(port))
        client.load((server.ipv4, port), WAITING, clients=WAITING)
        trial.settle(lambda: sum(server.queues(port).values()) == WAITING, seconds=3)
        count = sum(server.queues(port).values())
        step.advise("short", count=count)
        step.measured(count)

    with trial.step(
        "One that has answered is killed, and the others go on",
        expect=exactly(WAITING, "answers"),
        why="The queue belongs to the socket, and the socket to all who hold it. A process that "
        "ends takes its descriptor with it and nothing else.",
    ) as step:
        trial.expect_end(program)
        trial.signal(server, [victim], SIGKILL)
        trial.settle(lambda: victim.pid not in [row.pid for row in server.processes()])
        others = server.holders(port)
        trial.go_on(server, others)
        answers = client.stop_load(after=WAITING)
        # Whoever would end with it, has to have seen by then that one is gone.
        trial.settle(lambda: not server.holders(port), seconds=GRACE)
        trial.settle(lambda: trial.are_asleep(server, others), seconds=2)
        step.advise("lost")
        step.measured(answers.answered, answers.parts)
