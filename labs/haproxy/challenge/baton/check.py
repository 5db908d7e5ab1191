"""The check of baton: three listeners change hands, and the open connections stay."""

from collections.abc import Sequence

from labs.engine.challenge import (
    Address,
    Process,
    Program,
    Requirement,
    Socket,
    Trial,
    challenge,
    exactly,
)

WAITING = 4  # clients at each listener
REQUESTS = 20  # to each


@challenge(
    "baton",
    title="Hand three listeners to the next process, and keep the clients that one has",
    hints=(
        (
            "HAProxy's -x asks the old process for its listeners over a UNIX socket. The old one "
            "does not end then: look at what it waits for."
        ),
        (
            "One message may carry several descriptors. The receiver says how many it has room "
            "for, and what does not fit is closed. Their order, or getsockname(), tells which is "
            "which."
        ),
        (
            "The old one waits by select() for its three listeners and its UNIX socket. When "
            "somebody connects there it sends all three by socket.send_fds(), leaves the loop, "
            "answers the clients that it has, for example in their threads, and returns."
        ),
    ),
    advice={
        "listeners": "There are to be three listeners: {port} and {other} over IPv4, {port} over "
        "IPv6 alone (IPV6_V6ONLY).",
        "own": "The new process has opened ports of its own beside the old one's: there are more "
        "than three listeners. What waits at the old ones stays there.",
        "refused": "The new process was refused by bind(): the ports are taken. It is to ask the "
        "old one for its listeners.",
        "some": "Only {count} of the three listeners have come to the new process. The receiver "
        "has to have room for all of them, or the kernel closes the rest (MSG_CTRUNC).",
        "none": "The new process has none of the listeners.",
        "waiting": "Clients that waited in the queues were lost: a listener was closed, or nobody "
        "accepts there any more.",
        "greedy": "The old process goes on accepting new clients, beside the new one. It would "
        "never come to its end.",
        "dropped": "Clients that the old process had accepted got no answer from it. It is not to "
        "end before they have.",
        "stays": "The old process has no client any more, and has not ended.",
        "status": "The old process has ended with status {status}, as if something had gone wrong.",
    },
)
def baton(trial: Trial) -> None:
    """A new process takes all from an old one, but its clients."""
    port, other = trial.port(8080), trial.port(8081)
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    client, slow = (elsewhere.process(name, user="bob") for name in ("client", "slow"))
    addresses = trial.shuffled(((server.ipv4, port), (server.ipv4, other), (server.ipv6, port)))

    with trial.step(
        "Your program starts, and listens three times",
        expect=exactly(len(addresses), "listeners"),
        why="An IPv6 socket that is for IPv6 alone does not meet that of all IPv4 addresses.",
    ) as step:
        old = trial.start("old", server, port, other, "old", user="alice")
        trial.settle(lambda: len(find_listeners(trial, old, port, other)) == len(addresses))
        before = find_listeners(trial, old, port, other)
        step.advise("listeners", port=port, other=other)
        step.measured(len(before))

    with trial.step(
        "It has one client of each listener, {count} more wait at each, and a new process starts",
        expect=exactly(len(addresses), "of these listeners in the new process"),
        why="A message over a UNIX socket has brought them (SCM_RIGHTS).",
        count=WAITING,
    ) as step:
        held = [slow.connect(address) for address in addresses]
        trial.settle(lambda: count_accepted(old, port, other) == len(held))
        trial.expect_end(old)
        processes = trial.family(old)
        trial.stop(server, processes)
        waiting = [one for address in addresses for one in client.connect_many(address, WAITING)]
        new = trial.start("new", server, port, other, "new", user="alice")
        trial.go_on(server, processes)
        trial.settle(lambda: before <= find_listeners(trial, new, port, other))
        advise_on_taking(step, trial, old, new, port, other)
        step.measured(len(before & find_listeners(trial, new, port, other)))

    with trial.step(
        "Those that waited speak",
        expect=exactly(WAITING * len(addresses), "answers"),
        why="The queues have come along with the listeners. Who answers makes no difference.",
    ) as step:
        answers = trial.speak(waiting, "\n")
        step.advise("waiting")
        # The listeners are there, so it is the old one that has had them and lost them.
        has_all = before <= find_listeners(trial, new, port, other)
        step.advise("dropped", when=has_all and old.status is not None)
        step.measured(sum(map(bool, answers)))
    finish(trial, client, old, addresses, held)


def advise_on_taking(
    step: Requirement, trial: Trial, old: Program, new: Program, port: int, other: int
) -> None:
    """What may have gone wrong when the new process was to take the listeners."""
    taken = find_listeners(trial, new, port, other)
    everybodys = {*old.host.queues(port), *old.host.queues(other)}
    step.advise("none")
    step.advise("some", when=bool(taken), count=len(taken))
    step.advise("own", when=len(everybodys) > 3)
    step.advise("refused", when="Address already in use" in new.output)


def finish(
    trial: Trial,
    client: Process,
    old: Program,
    addresses: Sequence[Address],
    held: Sequence[Socket],
) -> None:
    """New clients are the new process's, the old one's are answered, and it ends."""
    with trial.step(
        "{count} more clients come to each listener",
        expect=exactly(REQUESTS * len(addresses), "answers of the new process"),
        why="A listener wakes whoever waits for it. The old process has closed its descriptors, or "
        "waits for them no more.",
        count=REQUESTS,
    ) as step:
        answers = [trial.ask(client, address, REQUESTS, "\n") for address in addresses]
        by_new = sum(one.by.get("new", 0) for one in answers)
        step.advise("waiting")
        step.advise("greedy", when=any("old" in one.by for one in answers))
        step.measured(by_new)

    with trial.step(
        "The clients that came first speak",
        expect=exactly(len(held), "answers of the old process"),
        why="What it has accepted it has alone: only the listeners were passed.",
    ) as step:
        step.advise("dropped")
        step.measured(trial.speak(held, "\n").count("old"))

    with trial.step(
        "Nobody is left with the old process",
        expect=exactly(1, "process that has ended with status 0"),
        why="Its copies of the listeners are closed with it, and that is not the last close.",
    ) as step:
        old.host.show()
        trial.settle(lambda: old.status is not None)
        step.advise("stays", when=old.status is None)
        step.advise("status", when=bool(old.status), status=old.status)
        step.measured(int(old.status == 0))


def find_listeners(trial: Trial, program: Program, port: int, other: int) -> set[int]:
    """The inodes of the listeners on both ports that a program has."""
    return {*trial.listeners(program, port), *trial.listeners(program, other)}


def count_accepted(program: Program, port: int, other: int) -> int:
    """How many connections a process has: one that waits in a queue has no inode yet."""
    rows = [*program.host.sockets(port), *program.host.sockets(other)]
    return sum(row.state == "ESTABLISHED" and row.inode > 0 for row in rows)
