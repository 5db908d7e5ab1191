"""The check of parcel: a listener comes to a process whose own network has nothing in it."""

from labs.engine.challenge import Host, Process, Program, Trial, challenge, exactly

REQUESTS = 40


@challenge(
    "parcel",
    title="Serve a port from a process that has no network",
    hints=(
        (
            "A process in an empty network namespace can open any port there, and nobody will ever "
            "come. But a socket is in the namespace in which it was made, whoever holds it."
        ),
        (
            "A UNIX socket is how the listener comes in (SCM_RIGHTS). One with a path is found "
            "through the file system, which the two have in common; an abstract name belongs to a "
            "network namespace."
        ),
        (
            "serve binds a UNIX socket below /tmp, and lets others write to it (os.chmod()): to "
            "connect takes the right to write. give makes the listener, connects there, calls "
            "socket.send_fds(), and ends."
        ),
    ),
    advice={
        "home": "The process that is to serve is still in the network of its host: unshare() comes "
        "first, before give is started.",
        "inside": "The process that serves has opened the port itself, in its own namespace. On "
        "the host nobody listens.",
        "door": "give has found nobody: an abstract name of a UNIX socket belongs to the network "
        "namespace in which it was bound. A path does not.",
        "denied": "Carol was not permitted what she needs: to connect to a UNIX socket with a path "
        "takes the right to write to it, and Alice's umask leaves that to Alice.",
        "kept": "A process in the host's network still has the listener: the only descriptors are "
        "to be where there is no network.",
        "silent": "Not every client was answered. Each connection gets the server's name, and is "
        "then closed.",
    },
)
def parcel(trial: Trial) -> None:
    """Alice waits without a network, and Carol brings her a listener."""
    port = trial.port(8080)
    server = trial.host("server")
    client = trial.host("elsewhere").process("client", user="bob")

    with trial.step(
        "Alice starts your program as serve, and it leaves the network",
        expect=exactly(1, "process without a network"),
        why="unshare(CLONE_NEWNET) gives it a namespace with a loopback device that is down, and "
        "nothing else (copy_net_ns()).",
    ) as step:
        serve = trial.start(
            "serve", server, "serve", port, "program", user="alice", capabilities=["CAP_SYS_ADMIN"]
        )
        trial.settle(lambda: count_away(trial, serve) > 0)
        trial.settle(lambda: trial.are_asleep(server, trial.family(serve)))  # waiting for Carol
        step.advise("home")
        step.measured(int(count_away(trial, serve) > 0))

    with trial.step(
        "Carol starts it as give, and it opens port {port} on the host",
        expect=exactly(1, "listener of Carol's"),
        why="A socket is in the network namespace of the process that makes it, for good (sk_net).",
        port=port,
    ) as step:
        give = trial.start("give", server, "give", port, "program", user="carol")
        trial.expect_end(give)
        trial.settle(lambda: give.status is not None)
        owners = [row.uid for row in server.sockets(port) if row.state == "LISTEN"]
        step.advise("inside")
        step.advise("door", when="Connection refused" in give.output)
        step.advise("denied", when="Permission denied" in give.output)
        step.measured(sum(uid == trial.uid("carol") for uid in owners))

    with trial.step(
        "Only processes without a network have it",
        expect=exactly(0, "holders in the network of the host"),
        why="SCM_RIGHTS has given serve a descriptor of the same open file (scm_detach_fds()). "
        "Neither uid nor namespace is asked.",
    ) as step:
        server.show()
        step.advise("kept")
        elsewhere = trial.find_elsewhere(serve)
        step.measured(sum(row.pid not in elsewhere for row in server.holders(port)))
    answer(trial, server, client, port)


def count_away(trial: Trial, program: Program) -> int:
    """How many processes of a program are in another network namespace than its host."""
    elsewhere = trial.find_elsewhere(program)
    return sum(row.pid in elsewhere for row in trial.family(program))


def answer(trial: Trial, server: Host, client: Process, port: int) -> None:
    """Clients reach the host, and are answered from a place that has no address."""
    with trial.step(
        "{count} clients come to the host",
        expect=exactly(REQUESTS, "answers"),
        why="What accept() makes is in the listener's network namespace (sk_clone_lock()), and so "
        "the answers find their way. Alice's process could not connect to anybody.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (server.ipv4, port), REQUESTS)
        step.advise("silent")
        step.measured(answers.answered, answers.parts)
