"""What several processes on one port are worth: connections a second, latency, sleeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from labs.engine.script import Finding, Host, Process, Run, Socket, between, lab

WORKERS = 4
CLIENTS = 8
REQUESTS = 400  # in each round
ROUNDS = 3
WORK = 5000  # microseconds that each connection waits for something else
WORK_REQUESTS = 60


@dataclass(frozen=True)
class Round:
    """What one round came to.

    Connections a second, a request's median and 99th percentile in microseconds, and how often
    the servers slept for each connection.
    """

    rate: float
    median: float
    ninety_ninth: float
    sleeps: float


@lab(
    "scale",
    title="What several processes on a port are worth, measured beside one process",
    claim="Several processes on a port serve more connections than one, and most of all with "
    "SO_REUSEPORT.",
)
def scale(run: Run) -> None:
    """One process, a shared queue and a group, in turn, on the same machine."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    alone = serve_alone(run, server, client)
    shared = serve_together(run, server, client, alone)
    group = serve_apart(run, server, client, alone)
    waiting = serve_and_wait(run, server, client)
    processors = count_processors(run, client)
    run.conclude(
        Finding.CONDITIONAL,
        "the processors are not the limit. Where each connection waited for something else, four "
        "made {waiting:.2f} times the connections of one. Where it did not, on {processors} "
        "processors that clients and servers share, four with one queue made {shared:.2f} times, "
        "and four with a queue each {group:.2f} times.",
        waiting=waiting,
        processors=processors,
        shared=shared,
        group=group,
    )


def serve_alone(run: Run, server: Host, client: Process) -> list[Socket]:
    """One process; returns its listener, with which the others are compared."""
    with run.step(
        "One process serves {count} connections of {clients} clients, {rounds} times",
        expect=between(0, 2.5, "sleeps for each connection"),
        why="A server that is busy does not sleep: while it serves, the next connections come, "
        "and it finds them without being woken. The fewer sleeps, the nearer to its limit.",
        count=REQUESTS,
        clients=CLIENTS,
        rounds=ROUNDS,
    ) as step:
        alone = [server.process("alone", user="alice").listen(run.port(8080))]
        rounds = [serve(client, alone, "epoll") for _ in range(ROUNDS)]
        step.measured(round(median(one.sleeps for one in rounds), 2), summary(rounds))
    return alone


def serve_together(run: Run, server: Host, client: Process, alone: Sequence[Socket]) -> float:
    """Children that share one queue; returns how many times as fast they are."""
    parent = server.process("parent", user="alice")
    with run.step(
        "Four children with one queue and EPOLLEXCLUSIVE, beside the one process",
        expect=between(0.1, 10, "times the connections a second"),
        why="Whoever is idle takes the next. Measured in turn with the one process, so that both "
        "meet the same machine. The bound is wide: no order is claimed where clients need the "
        "same processors.",
    ) as step:
        listener = parent.listen(run.port(8081))
        copies = parent.fork_holders(listener, "child", WORKERS)
        ratio, rounds = compare(client, copies, alone, "exclusive")
        step.measured(ratio, summary(rounds))
    return ratio


def serve_apart(run: Run, server: Host, client: Process, alone: Sequence[Socket]) -> float:
    """A group with a queue each; returns how many times as fast it is."""
    port = run.port(8082)
    with run.step(
        "Four processes with a queue each, by SO_REUSEPORT, beside the one process",
        expect=between(0.1, 10, "times the connections a second"),
        why="No lock and no queue is shared, and the hash asks nobody. What that saves, many "
        "processors show; what it costs, a few do: a connection waits for its own listener while "
        "others are idle.",
    ) as step:
        members = [server.process(f"member-{n}", user="alice") for n in range(1, WORKERS + 1)]
        group = [member.listen(port, reuseport=True) for member in members]
        ratio, rounds = compare(client, group, alone, "epoll")
        step.measured(ratio, summary(rounds))
    return ratio


def serve_and_wait(run: Run, server: Host, client: Process) -> float:
    """Serving waits, as for a database; returns how many times as fast four are."""
    parent = server.process("waiting", user="alice")
    with run.step(
        "Each connection waits 5 ms for something else: four with one queue, beside one process",
        expect=between(1.5, 5, "times the connections a second"),
        why="Who waits needs no processor, and keeps its process from the next connection all the "
        "same. Here four are worth up to four, on one processor too.",
    ) as step:
        one = [server.process("waiting-alone", user="alice").listen(run.port(8083))]
        listener = parent.listen(run.port(8084))
        copies = parent.fork_holders(listener, "waiting", WORKERS)
        ratio, rounds = compare(client, copies, one, "exclusive", work=WORK)
        step.measured(ratio, summary(rounds))
    return ratio


def count_processors(run: Run, client: Process) -> int:
    """How many processors clients and servers share."""
    with run.step(
        "How many processors are there for all of them?",
        expect=between(1, 4096, "processors"),
        why="Each kernel keeps queues and locks for each processor. With one or two, little is "
        "contended, and the clients take half of the time: ratios near 1 say nothing against "
        "either way.",
    ) as step:
        found = len(client.sched_getaffinity())
        step.measured(found)
    return found


def compare(
    client: Process, listeners: Sequence[Socket], alone: Sequence[Socket], way: str, work: int = 0
) -> tuple[float, list[Round]]:
    """Serve in turn, several against one; the ratio of the median rates, and the several's."""
    several: list[Round] = []
    one: list[Round] = []
    for _ in range(ROUNDS):
        several.append(serve(client, listeners, way, work))
        one.append(serve(client, alone, "epoll", work))
    ratio = median(round_.rate for round_ in several) / median(round_.rate for round_ in one)
    return round(ratio, 2), several


def serve(client: Process, listeners: Sequence[Socket], way: str, work: int = 0) -> Round:
    """One round: every request is answered, or the round says nothing."""
    for listener in listeners:
        listener.serve(way, pause=work)
    count = WORK_REQUESTS if work else REQUESTS
    host, port = listeners[0].process.host.ipv4, listeners[0].getsockname()[1]
    client.load((host, port), count, clients=CLIENTS)
    answers = client.stop_load(after=count)
    served = [listener.process.stop_serving() for listener in listeners]
    return Round(
        answers.answered / max(answers.elapsed, 1) * 1_000_000,
        answers.median,
        answers.ninety_ninth,
        sum(done.switches for done in served) / max(answers.answered, 1),
    )


def summary(rounds: Sequence[Round]) -> dict[str, float]:
    """The medians of some rounds, by name and unit."""
    return {
        "connections a second": round(median(one.rate for one in rounds)),
        "median in microseconds": median(one.median for one in rounds),
        "99th percentile": median(one.ninety_ninth for one in rounds),
        "sleeps for each": round(median(one.sleeps for one in rounds), 2),
    }
