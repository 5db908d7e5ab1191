"""How the kernel chooses a member of a reuseport group, and how one chooses oneself."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from socket import SO_REUSEPORT, SOL_SOCKET

from labs.engine.script import (
    ANY,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    Step,
    between,
    by_chance,
    chi_square,
    exactly,
    lab,
)

MEMBERS = 4
CONNECTIONS = 2000
TUPLES = 400
FEW = 8
STEERED = 40
FIRST_PORT = 20_000
SO_INCOMING_CPU = 49

# A kernel that chooses by chance misses each bound in less than one of 10,000 runs.
UNIFORM = between(0.003, 22.6, "as chi-square")  # 3 degrees of freedom, both tails
REPEATED = between(63, 137, "connections to the listener of the one before")  # 399 of 0.25
LEFT_OUT = between(7, 33, "of 50 times that somebody gets nothing")  # 50 of 0.377
HALF = between(160, 240, "of 400 that come to another listener")  # 400 of 0.5
MOST = between(221, 299, "of 400 that come to another listener")  # 400 of 0.65

# bpf(4): what a program may do, and where it finds what it asks for.
LOAD_HALF, LOAD_WORD, MODULO, RETURN, RETURN_NUMBER = 0x28, 0x20, 0x94, 0x16, 0x06
SOURCE_PORT = 0xFFF00000 + 20  # SKF_NET_OFF, behind an IPv4 header without options
PROCESSOR = 0xFFFFF000 + 36  # SKF_AD_OFF + SKF_AD_CPU
BY_PORT = ((LOAD_HALF, 0, 0, SOURCE_PORT), (MODULO, 0, 0, MEMBERS), (RETURN, 0, 0, 0))
BY_PROCESSOR = ((LOAD_WORD, 0, 0, PROCESSOR), (MODULO, 0, 0, MEMBERS), (RETURN, 0, 0, 0))
TO_NOBODY = ((RETURN_NUMBER, 0, 0, 99),)


@lab(
    "balance",
    title="The kernel spreads connections by a hash, and a program may choose instead",
    claim="The kernel spreads connections evenly over a reuseport group, by rotation or by a hash.",
)
def balance(run: Run) -> None:
    """Four listeners, many connections; a fifth comes, one goes; then a program chooses."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    address = (server.ipv4, run.port(8080))
    listeners = spread(run, server, client, address)
    before = repeat(run, client, address)
    listeners, last = change_members(run, listeners, client, address, before)
    aside = [
        *steer(run, listeners, client, address, last),
        prefer_processors(run, server, elsewhere),
    ]
    run.conclude(
        Finding.CONDITIONAL,
        "there are many clients: {count} connections were spread as by chance, by a hash of "
        "addresses and ports and never in turn. The same four-tuple came to the same listener "
        "every time; of {few} connections a listener often got none; and a member that came or "
        "went moved half of the tuples and more.",
        aside=aside,
        count=CONNECTIONS,
        few=FEW,
    )


def spread(run: Run, server: Host, client: Process, address: tuple[str, int]) -> list[Socket]:
    """Many connections over four members; returns the listeners."""
    members = [server.process(f"alice-{number}", user="alice") for number in range(1, MEMBERS + 1)]
    with run.step(
        "{count} connections come to a group of {members}, each from another port",
        expect=UNIFORM,
        why="Each gets its share as by chance (reuseport_select_sock(), a hash with a secret of "
        "the namespace's). Chi-square adds up how far the shares are from even: a sum of 22.6 and "
        "more, or under 0.003 as by a rotation, comes by chance in one of 10,000 runs.",
        count=CONNECTIONS,
        members=MEMBERS,
    ) as step:
        listeners = [join(member, address[1]) for member in members]
        answers = client.request(address, CONNECTIONS, first_port=FIRST_PORT)
        shares = {member.name: answers.by.get(member.name, 0) for member in members}
        step.measured(chi_square(shares), by_chance(shares))
    return listeners


def repeat(run: Run, client: Process, address: tuple[str, int]) -> list[str]:
    """One connection after the other from known ports; returns who answered each."""
    ports = range(FIRST_PORT, FIRST_PORT + TUPLES)
    with run.step(
        "{count} connections come, and each is compared with the one before",
        expect=REPEATED,
        why="In a rotation no two in a row would come to the same listener. By a hash one in "
        "{members} does.",
        count=TUPLES,
        members=MEMBERS,
    ) as step:
        first = client.request_each(address, ports)
        step.measured(sum(one == other for one, other in pairwise(first)))

    with run.step(
        "The same {count} come again, from the same ports",
        expect=exactly(0, "that come to another listener"),
        why="The same addresses and ports make the same hash. As long as the group stays as it "
        "is, a client that keeps its port keeps its listener.",
        count=TUPLES,
    ) as step:
        step.measured(moved(first, client.request_each(address, ports)))

    with run.step(
        "And again, but only {few} at a time are looked at",
        expect=LEFT_OUT,
        why="Even is what many connections are, not few: of {few} over {members} listeners one "
        "gets nothing in more than a third of the cases.",
        few=FEW,
        members=MEMBERS,
    ) as step:
        again = client.request_each(address, ports)
        groups = [{*again[start : start + FEW]} for start in range(0, TUPLES, FEW)]
        step.measured(sum(len(names) < MEMBERS for names in groups))
    return first


def change_members(
    run: Run,
    listeners: Sequence[Socket],
    client: Process,
    address: tuple[str, int],
    before: Sequence[str],
) -> tuple[list[Socket], list[str]]:
    """A member comes, a member goes; returns the group in its new order, and who answers."""
    ports = range(FIRST_PORT, FIRST_PORT + TUPLES)
    fifth = listeners[0].process.host.process("alice-5", user="alice")
    with run.step(
        "A fifth listener joins, and the same connections come",
        expect=HALF,
        why="The hash is scaled to the number of members (reciprocal_scale()). With one more, "
        "half of the tuples belong to another, not only the fifth that the new one gets.",
    ) as step:
        joined = join(fifth, address[1])
        now = client.request_each(address, ports)
        step.measured(moved(before, now))

    first, second, third, fourth = listeners
    with run.step(
        "The second listener is closed, and they come once more",
        expect=MOST,
        why="The last member takes the place of the one that left (reuseport_detach_sock()), and "
        "the hash is scaled to four again: two of three connections move.",
    ) as step:
        second.process.stop_serving()
        second.close()
        last = client.request_each(address, ports)
        step.measured(moved(now, last))
    return [first, joined, third, fourth], last


def steer(
    run: Run,
    group: Sequence[Socket],
    client: Process,
    address: tuple[str, int],
    last: Sequence[str],
) -> list[Step]:
    """A program of classic BPF chooses; returns the steps that one processor cannot show."""
    ports = range(FIRST_PORT, FIRST_PORT + TUPLES)
    names = [listener.process.name for listener in group]
    with run.step(
        "A program chooses by the client's port, modulo {members}",
        expect=exactly(STEERED, "connections at the listener of their port"),
        why="SO_ATTACH_REUSEPORT_CBPF (since 4.5, no capability needed) asks the program instead "
        "of the hash; its answer is a member by its place in the group. Here ports that follow "
        "each other make a rotation.",
        members=MEMBERS,
    ) as step:
        group[0].attach_reuseport_cbpf(*BY_PORT)
        found = client.request_each(address, ports[:STEERED])
        wanted = [names[port % MEMBERS] for port in ports[:STEERED]]
        step.measured(sum(one == other for one, other in zip(found, wanted, strict=True)))

    with run.step(
        "A program chooses by the processor on which a connection comes",
        expect=exactly(STEERED, "connections at the listener of their processor"),
        why="The client runs on one processor and then on another, and the kernel handles the "
        "packets of a veth where they were sent. So a server keeps a connection on the processor "
        "that has its packets in its cache.",
    ) as by_processor:
        pinned = client.host.process("pinned", user="bob")
        processors = pick_processors(by_processor, pinned)
        group[0].attach_reuseport_cbpf(*BY_PROCESSOR)
        shares = ask_from(pinned, address, processors)
        by_processor.measured(
            sum(shares[processor].get(names[processor % MEMBERS], 0) for processor in processors)
        )

    with run.step(
        "A program names a place that nobody has, and the {count} come again",
        expect=exactly(0, "that come to another listener than by the hash"),
        why="An answer beyond the group is none: the hash decides (run_bpf_filter() in "
        "reuseport_select_sock()). Nothing is lost by a wrong program.",
        count=TUPLES,
    ) as step:
        group[0].attach_reuseport_cbpf(*TO_NOBODY)
        step.measured(moved(last, client.request_each(address, ports)))
    return [by_processor]


def prefer_processors(run: Run, server: Host, elsewhere: Host) -> Step:
    """SO_INCOMING_CPU: a listener says which processor's connections it would like."""
    port = run.port(8081)
    with run.step(
        "Two listeners ask for the connections of a processor each, by SO_INCOMING_CPU",
        expect=exactly(STEERED, "connections at the listener of their processor"),
        why="Among the members of a group those come first that want the processor on which the "
        "connection came (since 6.2 in a group; reuseport_select_sock_by_hash()).",
    ) as step:
        pinned = elsewhere.process("pinned-2", user="bob")
        processors = pick_processors(step, pinned)
        if run.kernel < (6, 2):
            step.skip("a group does not look at SO_INCOMING_CPU", since="6.2")
        for processor in processors:
            member = server.process(f"cpu-{processor}", user="alice")
            listener = member.socket()
            listener.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            listener.setsockopt(SOL_SOCKET, SO_INCOMING_CPU, processor)
            listener.bind((ANY, port))
            listener.listen()
            listener.serve()
        shares = ask_from(pinned, (server.ipv4, port), processors)
        step.measured(sum(shares[processor].get(f"cpu-{processor}", 0) for processor in processors))
    return step


def join(member: Process, port: int) -> Socket:
    """A process listens in the group and answers what comes."""
    listener = member.listen(port, reuseport=True)
    listener.serve()
    return listener


def pick_processors(step: Step, client: Process) -> list[int]:
    """Two processors whose listeners differ; the step is left where there is but one."""
    processors = {processor % MEMBERS: processor for processor in client.sched_getaffinity()}
    if len(processors) < 2:
        step.skip("it takes two processors")
    return sorted(processors.values())[:2]


def ask_from(
    client: Process, address: tuple[str, int], processors: Sequence[int]
) -> dict[int, Mapping[str, int]]:
    """Let the client ask from each processor in turn; who answered how many, by processor."""
    shares: dict[int, Mapping[str, int]] = {}
    for processor in processors:
        client.sched_setaffinity(processor)
        shares[processor] = client.request(address, STEERED // len(processors)).by
    return shares


def moved(before: Sequence[str], after: Sequence[str]) -> int:
    """How many connections were answered by somebody else."""
    return sum(one != other for one, other in zip(before, after, strict=True))
