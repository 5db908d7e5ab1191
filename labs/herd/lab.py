"""The thundering herd: how many wake for one connection, and how many of them in vain."""

from dataclasses import dataclass

from labs.engine.script import (
    Finding,
    Host,
    Process,
    Run,
    Socket,
    as_shares,
    as_wake_ups,
    between,
    exactly,
    lab,
)

WORKERS = 8
CONNECTIONS = 24

# Besides its wake-ups for connections a process may sleep once more, as Python's threads do.
SPARE = 2 * WORKERS


@dataclass(frozen=True)
class Crowd:
    """What eight workers did for CONNECTIONS connections, each of which came when all slept.

    `shares` is how many each accepted, `wakes` how often each woke, and `empty` how often one of
    them found nothing.
    """

    shares: dict[str, float]
    wakes: dict[str, float]
    empty: int

    @property
    def woken(self) -> float:
        """How often they woke in all."""
        return sum(self.wakes.values())


@lab(
    "herd",
    title="How many processes wake for one connection depends on how they wait",
    claim="Where processes share one listener, each connection wakes all of them.",
)
def herd(run: Run) -> None:
    """Eight processes wait for one connection at a time, in six ways."""
    server = run.host("server")
    client = server.process("client", user="bob")
    wait_in_accept(run, server, client)
    wait_in_epoll(run, server, client)
    wait_apart(run, server, client)
    run.conclude(
        Finding.CONDITIONAL,
        "each waits with epoll or poll on its own: then {count} connections woke {workers} each. "
        "In a blocking accept() one woke, in turn; with EPOLLEXCLUSIVE, with a listener each by "
        "SO_REUSEPORT, one as well, and with a lock two.",
        count=CONNECTIONS,
        workers=WORKERS,
    )


def wait_in_accept(run: Run, server: Host, client: Process) -> None:
    """Blocking accept(): waiters stand in a queue, and one is woken."""
    with run.step(
        "{workers} processes wait in accept(), and {count} connections come",
        expect=between(CONNECTIONS, CONNECTIONS + SPARE, "wake-ups"),
        why="accept() waits exclusively (prepare_to_wait_exclusive() in inet_csk_wait_for_"
        "connect()): a connection wakes one waiter, so there is no herd.",
        workers=WORKERS,
        count=CONNECTIONS,
    ) as step:
        parent = server.process("accept", user="alice")
        crowd = gather_crowd(client, parent.listen(run.port(8081)), "accept")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))

    with run.step(
        "How many connections did each accept?",
        expect=exactly(CONNECTIONS // WORKERS, "connections for each, the most and the fewest"),
        why="The one who has waited longest is woken, and then stands at the end: a strict "
        "rotation, as long as nobody is busy. Chance has no part in it.",
    ) as same:
        parent = server.process("again", user="alice")
        again = gather_crowd(client, parent.listen(run.port(8082)), "accept")
        fewest, most = min(again.shares.values()), max(again.shares.values())
        same.measured(most if most == fewest else 0, as_shares(again.shares))


def wait_in_epoll(run: Run, server: Host, client: Process) -> None:
    """epoll: everybody is told."""
    with run.step(
        "They wait with epoll, each with an instance of its own",
        expect=between(
            CONNECTIONS * WORKERS, CONNECTIONS * WORKERS + CONNECTIONS + SPARE, "wake-ups"
        ),
        why="epoll asks to be told, and is not exclusive: a connection wakes all who sleep "
        "(ep_poll_callback()). Here is the herd.",
    ) as step:
        parent = server.process("epoll", user="alice")
        crowd = gather_crowd(client, parent.listen(run.port(8083)), "epoll")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))

    with run.step(
        "The same, and whoever wakes is slow: before accept() it waits until all are awake",
        expect=exactly(CONNECTIONS * (WORKERS - 1), "accept() calls that found nothing"),
        why="Before, most saw inside epoll_wait() that the queue was empty again and slept on. "
        "Now the connection is still there when they look, and only one can have it: the others "
        "get EAGAIN.",
    ) as step:
        parent = server.process("slow", user="alice")
        listener = parent.listen(run.port(8084))
        parent.make_barrier(WORKERS)
        crowd = gather_crowd(client, listener, "epoll")
        step.measured(crowd.empty)

    with run.step(
        "They wait with EPOLLEXCLUSIVE",
        expect=between(CONNECTIONS, CONNECTIONS + SPARE, "wake-ups"),
        why="With this flag (since 4.5) epoll waits exclusively, and one is woken "
        "(add_wait_queue_exclusive() in ep_ptable_queue_proc()).",
    ) as step:
        parent = server.process("exclusive", user="alice")
        crowd = gather_crowd(client, parent.listen(run.port(8085)), "exclusive")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))

    with run.step(
        "They wait with epoll again, but only who has the lock waits",
        expect=between(CONNECTIONS, 2 * CONNECTIONS + SPARE, "wake-ups"),
        why="What servers did before there was such a flag (accept_mutex of nginx): one waits for "
        "a connection, the others for the lock. Two wake: who gets the connection, and "
        "who gets the lock next.",
    ) as step:
        parent = server.process("lock", user="alice")
        listener = parent.listen(run.port(8086))
        parent.make_lock()
        crowd = gather_crowd(client, listener, "lock")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))


def wait_apart(run: Run, server: Host, client: Process) -> None:
    """SO_REUSEPORT: a listener each."""
    port = run.port(8087)
    with run.step(
        "Each has a listener of its own, with SO_REUSEPORT, and waits with epoll",
        expect=between(CONNECTIONS, CONNECTIONS + SPARE, "wake-ups"),
        see="reuseport",
        why="A connection is in one listener's queue, and one process waits there. A hash has "
        "chosen it, whether it was busy or not.",
    ) as step:
        workers = [
            server.process(f"apart-{number}", user="alice") for number in range(1, WORKERS + 1)
        ]
        listeners = [worker.listen(port, reuseport=True) for worker in workers]
        crowd = ask_crowd(client, listeners, "epoll")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))

    parent = server.process("shared", user="alice")
    with run.step(
        "One listener of such a group is shared by {workers} children, which wait with epoll",
        expect=between(
            CONNECTIONS * WORKERS, CONNECTIONS * WORKERS + CONNECTIONS + SPARE, "wake-ups"
        ),
        why="SO_REUSEPORT ends the herd between listeners. Between those who share one of them "
        "nothing has changed.",
        workers=WORKERS,
    ) as step:
        crowd = gather_crowd(client, parent.listen(run.port(8088), reuseport=True), "epoll")
        step.measured(crowd.woken, as_wake_ups(crowd.wakes))


def gather_crowd(client: Process, listener: Socket, way: str) -> Crowd:
    """Fork workers that wait on one listener, and let connections come."""
    parent = listener.process
    return ask_crowd(client, parent.fork_holders(listener, parent.name, WORKERS), way)


def ask_crowd(client: Process, listeners: list[Socket], way: str) -> Crowd:
    """Let each process wait at its listener, and connections come one by one when all sleep."""
    workers = [listener.process for listener in listeners]
    for listener in listeners:
        listener.serve(way)
    host, (_, port) = workers[0].host, listeners[0].getsockname()
    answers = client.request_from_sleep((host.ipv4, port), CONNECTIONS, workers)
    served = {worker.name: worker.stop_serving() for worker in workers}
    for worker in workers:
        worker.kill()
    return Crowd(
        {name: done.accepted for name, done in served.items()},
        {worker.name: answers.woken[str(worker.pid)] for worker in workers},
        sum(done.empty for done in served.values()),
    )
