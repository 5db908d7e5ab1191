"""The check of survivor: of several servers some hang, one is killed, and no client is lost."""

from collections.abc import Sequence
from signal import SIGKILL

from labs.engine.challenge import Host, Process, ProcessRow, Program, Trial, challenge, exactly

SERVERS = 4
# In a reuseport group each of them goes to one that hangs with probability 3/4. Behind a lock
# whoever serves in one round has it in the next, in which he hangs.
CLIENTS = 20


@challenge(
    "survivor",
    title="Let several serve, so that nothing is lost with one that hangs or dies",
    hints=(
        (
            "In the lab the members of a reuseport group had a queue each, and whoever waited at "
            "the one that hung was lost with it. In its last steps nobody was."
        ),
        (
            "With one queue for all, whoever is free takes the next client. No client is any "
            "server's before accept(), and so none is lost with a server."
        ),
        (
            "Make one listener, then fork COUNT children. Each calls accept() in a loop, and none "
            "ever waits for another. The parent waits for all of them."
        ),
    ),
    advice={
        "few": "Fewer than {count} processes have a listener on the port.",
        "queue": "Clients wait at those that hang: each has a queue of its own, and the hash goes "
        "on sending clients there. Nobody else can take them from it.",
        "lock": "There is one queue, and the one that does not hang takes nobody from it. Perhaps "
        "it waits for what another one has, a lock for example: accept() needs none.",
        "reset": "The clients that waited were lost when one server died: the others have closed "
        "the port, or ended with it.",
        "silent": "Not every client was answered. Each connection gets NAME, and is then closed.",
    },
)
def survivor(trial: Trial) -> None:
    """Servers hang and die in turn."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Your program starts {count} servers on port {port}",
        expect=exactly(SERVERS, "processes that serve"),
        why="Whoever has the listener may accept. The first process may be one of those that "
        "serve.",
        count=SERVERS,
        port=port,
    ) as step:
        program = trial.start("program", server, port, SERVERS, "program", user="alice")
        trial.settle(lambda: len(server.holders(port)) >= SERVERS)
        step.advise("few", count=SERVERS)
        step.measured(min(len(server.holders(port)), SERVERS))

    with trial.step(
        "All but one hang, each in turn is the one left, and {count} clients come each time",
        expect=exactly(CLIENTS * SERVERS, "answers"),
        why="A process that hangs does not call accept(). With one queue the clients do not "
        "notice: the next accept() is somebody else's.",
        count=CLIENTS,
    ) as step:
        servers = find_servers(program, port)
        answered = ask_each_alone(trial, client, server, port, servers)
        step.advise("lock")
        step.advise("queue", when=len(server.queues(port)) > 1)
        step.measured(answered)

    with trial.step(
        "{count} clients wait, and one server is killed",
        expect=exactly(CLIENTS, "answers"),
        why="The kernel closes its descriptors. The listener has others, and keeps its queue.",
        count=CLIENTS,
    ) as step:
        victim = trial.shuffled(row for row in servers if row.pid != program.pid)[0]
        processes = trial.family(program)
        trial.stop(server, processes)
        waiting = client.connect_many((server.ipv4, port), CLIENTS)
        trial.signal(server, [victim], SIGKILL)
        trial.settle(lambda: all(row.pid != victim.pid for row in server.holders(port)))
        trial.go_on(server, processes)
        step.advise("reset")
        step.measured(sum(bool(answer) for answer in trial.speak(waiting)))

    with trial.step(
        "{count} more clients come",
        expect=exactly(CLIENTS, "answers"),
        why="The others serve on.",
        count=CLIENTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), CLIENTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)


def find_servers(program: Program, port: int) -> list[ProcessRow]:
    """The processes that have a listener: the first one only where it has to be one of them."""
    holders = program.host.holders(port)
    others = [row for row in holders if row.pid != program.pid]
    return others if len(others) >= SERVERS else holders


def ask_each_alone(
    trial: Trial, client: Process, server: Host, port: int, servers: Sequence[ProcessRow]
) -> int:
    """Stop all servers but one, each in turn, and let clients come; how many are answered."""
    answered = 0
    for left in trial.shuffled(servers):
        hanging = [row for row in servers if row.pid != left.pid]
        trial.stop(server, hanging)
        come = client.connect_many((server.ipv4, port), CLIENTS)
        got = sum(bool(answer) for answer in trial.speak(come))
        trial.go_on(server, hanging)
        answered += got
        if got < CLIENTS:
            break
    return answered
