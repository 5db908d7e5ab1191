"""The check of handover: a new copy takes the listener from a running one, under load."""

from signal import SIGTERM

from labs.engine.challenge import Address, Host, Process, Program, Trial, challenge, exactly

CLIENTS = 3  # few, for each request leaves a TIME_WAIT that every look at the host has to list
MOST = 20_000
SOME = 200  # requests after the old copy's end
REQUESTS = 20  # in the end
MOMENTS = range(20, 200)  # requests before the new copy is started


@challenge(
    "handover",
    title="Take over from a running server, and lose not one request",
    hints=(
        (
            "Two listeners are two queues, and the old one's dies with it: the lab lost requests "
            "that way even when it drained first. Look at the ways that lost none."
        ),
        (
            "SCM_RIGHTS gives another process a descriptor of the same listener. Both may accept "
            "for a while, and the queue does not notice who goes."
        ),
        (
            "At its start a copy connects to a UNIX socket below /tmp and takes what comes "
            "(socket.recv_fds()). If nobody is there it opens the port itself. Then it offers the "
            "listener there in its turn, from a thread (socket.send_fds())."
        ),
    ),
    advice={
        "second": "There are two listeners on the port now: the new copy has made its own. What "
        "waits in the old one's queue is lost when that is closed.",
        "refused": "The new copy was refused by bind(): the port is taken. It is to take the "
        "listener that there is, not to make another.",
        "empty": "The new copy has no listener: the old one's has not come to it.",
        "hand": "The old copy was serving a client when SIGTERM came, and has dropped it. What it "
        "has accepted, nobody else can answer.",
        "shut": "The listener is gone, though the new copy has a descriptor of it: shutdown() "
        "stops the socket itself, for all. To leave it to the other, close() is enough.",
        "stays": "The old copy does not end, though its client has been answered. A flag does not "
        "end an accept() that nobody else wakes: Python calls it again.",
        "status": "The old copy has ended with status {status}, as if something had gone wrong.",
        "lost": "Requests were lost on the way: refused {refused}, reset {reset}, timed out "
        "{timed_out}.",
    },
)
def handover(trial: Trial) -> None:
    """A server is replaced by its next copy while clients come without a pause."""
    port = trial.port(8080)
    moment = trial.shuffled(MOMENTS)[0]
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    client = elsewhere.process("clients", user="bob")
    slow = elsewhere.process("slow", user="bob")

    with trial.step(
        "Your program starts, and listens on port {port}",
        expect=exactly(1, "listeners"),
        why="Nobody is there from whom it could take one.",
        port=port,
    ) as step:
        old = trial.start("old", server, port, "old", user="alice")
        trial.settle(lambda: len(trial.listeners(old, port)) == 1)
        before = {*server.queues(port)}
        step.measured(len(trial.listeners(old, port)))

    with trial.step(
        "After {moment} requests of {clients} clients a new copy starts",
        expect=exactly(1, "listener, which the new copy has as well"),
        why="It is the same open file in two processes, by SCM_RIGHTS (scm_detach_fds()) for "
        "example. Nothing was bound.",
        moment=moment,
        clients=CLIENTS,
    ) as step:
        client.load((server.ipv4, port), MOST, clients=CLIENTS, words="\n")
        trial.wait_for_load(client, moment)
        trial.expect_end(old)
        new = trial.start("new", server, port, "new", user="alice")
        trial.settle(lambda: len(trial.listeners(new, port)) > 0)
        queues = {*server.queues(port)}
        step.advise("empty")
        step.advise("refused", when="Address already in use" in new.output)
        step.advise("second", when=len(queues) > 1)
        has_it = before <= {*trial.listeners(new, port)}
        step.measured(len(queues) if has_it or len(queues) > 1 else 0)

    end_old(trial, slow, old, new, port)
    with trial.step(
        "The load goes on for {count} more requests",
        expect=exactly(0, "requests lost"),
        why="There was a listener at every moment, and its queue was never closed.",
        count=SOME,
    ) as step:
        answers = trial.end_load(client, SOME)
        step.advise(
            "lost",
            refused=answers.refused,
            reset=answers.reset,
            timed_out=answers.timed_out,
        )
        step.advise("shut", when=not server.queues(port))
        step.measured(answers.lost, answers.parts)

    with trial.step(
        "The old copy has ended, and {count} clients come",
        expect=exactly(REQUESTS, "answers"),
        why="Its descriptor of the listener is closed, the new one's is not.",
        count=REQUESTS,
    ) as step:
        trial.settle(lambda: old.status is not None)
        step.advise("stays", when=old.status is None)
        step.advise("status", when=bool(old.status), status=old.status)
        step.advise("shut", when=not server.queues(port))
        answers = trial.ask(client, (server.ipv4, port), REQUESTS, "\n")
        step.measured(answers.answered if old.status == 0 else 0, answers.parts)


def end_old(trial: Trial, slow: Process, old: Program, new: Program, port: int) -> None:
    """SIGTERM comes to the old copy when it has a client in hand, and many wait."""
    server = old.host
    with trial.step(
        "SIGTERM comes to the old copy while it serves a client that is slow to speak",
        expect=exactly(1, "answer"),
        why="An accepted connection is the old one's own. It cannot leave it to the other.",
    ) as step:
        copies = trial.family(new)
        trial.stop(server, copies)  # so that nobody but the old one can accept
        held = slow.connect((server.ipv4, port))
        peer = held.getsockname()
        trial.settle(lambda: is_accepted(server, port, peer) or old.status is not None, seconds=1)
        trial.signal(server, [] if old.status is not None else [old], SIGTERM)
        # One that ends at once shows it now; one that waits for its client cannot end.
        trial.settle(lambda: old.status is not None, seconds=0.3)
        trial.go_on(server, copies)
        (answer,) = trial.speak([held], "\n")
        step.advise("hand")
        step.advise("shut", when=not server.queues(port))
        step.measured(bool(answer))


def is_accepted(server: Host, port: int, peer: Address) -> bool:
    """Whether a process has accepted this client: what waits in a queue has no inode yet."""
    return any(row.peer == peer and row.inode > 0 for row in server.sockets(port))
