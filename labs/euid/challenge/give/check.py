"""The check of give: root cannot become Alice, and its socket is to be hers all the same."""

from labs.engine.challenge import EADDRINUSE, OK, Host, Process, Program, Trial, challenge, exactly

REQUESTS = 40


@challenge(
    "give",
    title="Stay root, and open a port that belongs to somebody else",
    hints=(
        (
            "Your program has no CAP_SETUID: it never becomes Alice. The lab has a root who stays "
            "root too, and whose socket joins Alice's all the same."
        ),
        (
            "A socket has an inode, with an owner like a file. With CAP_CHOWN root may give it "
            "away, and the kernel compares the owner that it has then."
        ),
        (
            "fchown(descriptor, uid, -1) right after socket(): bind() asks for the owner already, "
            "and so the gift has to come first."
        ),
    ),
    advice={
        "setuid": "It has tried to change its uid, without CAP_SETUID. It has to stay root, and so "
        "it is the socket that has to change.",
        "denied": "A call was not permitted to it: CAP_CHOWN is all that it has.",
        "roots": "The socket is root's (uid 0), and Alice's cannot join it. A socket's owner can "
        "be changed: look at the lab's step on fchown().",
        "alone": "The socket is Alice's, and shares its port with nobody: all sockets on it need "
        "SO_REUSEPORT, before bind().",
        "late": "The second copy was refused by bind(): its socket was root's at that moment, "
        "beside Alice's. It has to be given away before that.",
        "silent": "Not every client was answered. Each connection gets NAME, and is then closed.",
    },
)
def give(trial: Trial) -> None:
    """Two servers of root's and one of Alice's share a port of Alice's."""
    port = trial.port(8080)
    server = trial.host("server")
    alice = server.process("alice", user="alice")
    rival = server.process("root", user="root")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Root starts your program, and it listens on port {port}",
        expect=exactly(1, "listeners"),
        why="Whoever opens it: the port is free, and takes no capability.",
        port=port,
    ) as step:
        first = start(trial, server, "first", port)
        step.advise("denied", when="Operation not permitted" in first.output)
        step.advise("setuid", when=failed_to_change(first))
        step.measured(len(trial.listeners(first, port)))

    with trial.step(
        "Alice herself listens on the same port",
        expect=OK,
        why="fchown() has changed the owner in the socket (sockfs_setattr()), and bind() compares "
        "that one.",
    ) as step:
        step.advise("alone")
        step.advise("roots", when=owner(server, port) == 0)
        shared = alice.listen(port, reuseport=True)

    with trial.step(
        "Another process of root's asks for it, with a socket of root's",
        expect=EADDRINUSE.by("bind"),
        why="The group is Alice's now. To this rule root is one more stranger.",
    ):
        rival.listen(port, reuseport=True)

    with trial.step(
        "A second of your servers starts beside the first",
        expect=exactly(3, "listeners"),
        why="Its process is root's as well. But its socket is Alice's when bind() is called.",
    ) as step:
        second = start(trial, server, "second", port)
        step.advise("late", when="Address already in use" in second.output)
        step.measured(len(server.queues(port)))
        shared.close()

    serve(trial, server, client, port)


def start(trial: Trial, server: Host, name: str, port: int) -> Program:
    """Start one of the trainee's servers, and wait until it listens."""
    uid = trial.uid("alice")
    program = trial.start(name, server, port, uid, name, user="root", capabilities=["CAP_CHOWN"])
    trial.settle(lambda: len(trial.listeners(program, port)) == 1)
    return program


def owner(server: Host, port: int) -> int:
    """The uid of the listener on the port."""
    return next(row.uid for row in server.sockets(port) if row.state == "LISTEN")


def failed_to_change(program: Program) -> bool:
    """Whether its last words name a call that changes uids, gids or groups."""
    refused = "Operation not permitted" in program.output
    return refused and any(call in program.output for call in ("set", "initgroups"))


def serve(trial: Trial, server: Host, client: Process, port: int) -> None:
    """Clients are answered, by both."""
    with trial.step(
        "{count} clients come",
        expect=exactly(REQUESTS, "answers"),
        why="Who owns a listener makes no difference to who may accept: that takes a descriptor, "
        "and no more.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)
