"""SO_REUSEPORT: how processes come to share a port, and what each of them gets."""

from collections.abc import Sequence
from socket import AF_INET, SO_REUSEPORT, SOCK_DGRAM, SOL_SOCKET

from labs.engine.script import (
    ANY,
    EADDRINUSE,
    EINVAL,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    as_shares,
    by_chance,
    exactly,
    lab,
)

CONNECTIONS = 40
DATAGRAMS = 12


@lab(
    "reuseport",
    title="With SO_REUSEPORT strangers share a port, each with a queue of its own",
    claim="If the first process sets SO_REUSEPORT, all later ones that set it can share its port; "
    "if it does not, none can.",
)
def reuseport(run: Run) -> None:
    """Groups form, some do not; clients come; a member leaves."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    alice = server.process("alice", user="alice")
    other = server.process("alice-2", user="alice")
    client = elsewhere.process("client", user="bob")
    port = run.port(8080)
    members = form_group(run, alice, other, port)
    set_it_late(run, alice, other)
    members.append(fork_first(run, server, port))
    serve_clients(run, client, server, port, members)
    lose_a_member(run, client, server, port, members)
    share_datagrams(run, client, alice, other)
    run.conclude(
        Finding.CONDITIONAL,
        "every socket on the port has the option at the time of each bind(), and one user made "
        "them: a first one that set it only after bind(), or after listen(), let the others in. "
        "Every connection was in the queue of exactly one.",
    )


def form_group(run: Run, alice: Process, other: Process, port: int) -> list[Socket]:
    """Two processes that are not related share the port; returns their listeners."""
    with run.step(
        "Alice listens on {port} with SO_REUSEPORT",
        expect=OK,
        rule="free",
        why="The port is free, and whoever comes later will find the option set.",
        port=port,
    ):
        first = alice.listen(port, reuseport=True)

    with run.step(
        "Another process of Alice's, no relative, joins with SO_REUSEPORT",
        expect=OK,
        rule="remembered-reuseport",
        why="Both sockets have the option and one owner; who started the processes is not asked "
        "(inet_csk_bind_conflict()). That it takes one owner, the lab euid shows.",
    ):
        second = other.listen(port, reuseport=True)

    with run.step(
        "The two listeners are looked at",
        expect=exactly(2, "sockets with an inode of their own"),
        why="They share a port and nothing else: these are two sockets, with two accept queues.",
    ) as step:
        step.measured(len({first.inode(), second.inode()}))
    return [first, second]


def set_it_late(run: Run, alice: Process, other: Process) -> None:
    """The first socket has no SO_REUSEPORT, or has it late."""
    port, later = run.port(8081), run.port(8082)
    with run.step(
        "Alice listens on {port} without the option; another asks with it",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks their-reuseport",
        why="Both sides need the option. The first that does without shuts out all that follow.",
        port=port,
    ):
        listener = alice.listen(port)
        other.listen(port, reuseport=True)

    with run.step(
        "Alice sets it on her listener, and the other asks again",
        expect=OK,
        rule="both-reuseport",
        why="What counts is what her socket has now, not what it had at bind(): where the port's "
        "summary says no, inet_csk_bind_conflict() looks at the sockets themselves.",
    ):
        listener.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        other.listen(port, reuseport=True)

    with run.step(
        "Alice binds to {port}, sets it, listens; the other joins",
        expect=OK,
        rule="remembered-reuseport",
        why="The same between bind() and listen(): the order in which she does things is her own "
        "affair, as long as the option is there when the other binds.",
        port=later,
    ):
        bound = alice.socket()
        bound.bind((ANY, later))
        bound.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        bound.listen()
        other.listen(later, reuseport=True)


def fork_first(run: Run, server: Host, port: int) -> Socket:
    """fork() before bind(), with a socket each and with one for both; returns the child's."""
    parent = server.process("parent", user="alice")
    with run.step(
        "A process forks, and its child makes a socket of its own and joins",
        expect=OK,
        rule="remembered-reuseport",
        why="To the kernel the child's socket is one like a stranger's.",
    ):
        child = parent.fork("child")
        joined = child.listen(port, reuseport=True)

    with run.step(
        "A socket is made before fork(); the parent binds it, then the child",
        expect=EINVAL.by("bind"),
        rule="bound-already",
        see="fork",
        why="Both hold one socket, and a socket is bound once (__inet_bind()). The option is "
        "about several sockets, and here is only one.",
    ):
        shared = parent.socket()
        shared.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        twin = parent.fork("child-2").inherited(shared)
        shared.bind((ANY, port))
        twin.bind((ANY, port))
    return joined


def serve_clients(
    run: Run, client: Process, server: Host, port: int, members: Sequence[Socket]
) -> None:
    """Each connection is in the queue of one member, and that one accepts it."""
    with run.step(
        "{count} connections come from another host, and the group accepts them",
        expect=exactly(CONNECTIONS, "connections accepted"),
        why="A hash of addresses and ports picks one listener for each "
        "(reuseport_select_sock()). Shares are a matter of chance, the sum is not.",
        count=CONNECTIONS,
    ) as step:
        client.connect_many((server.ipv4, port), CONNECTIONS)
        shares = accept_all(members, run.wait_for_queues(server, port, CONNECTIONS))
        step.measured(sum(shares.values()), by_chance(shares))


def lose_a_member(
    run: Run, client: Process, server: Host, port: int, members: Sequence[Socket]
) -> None:
    """One listener is closed while connections wait."""
    last, *others = members
    with run.step(
        "{count} more wait; one member closes, the others accept",
        expect=exactly(CONNECTIONS, "connections accepted or lost with the closed queue"),
        see="crash",
        why="Queues are apart: what waits in the closed one is reset (inet_csk_listen_stop()), "
        "as long as net.ipv4.tcp_migrate_req is 0, the default. What waits in the others stays.",
        count=CONNECTIONS,
    ) as step:
        client.connect_many((server.ipv4, port), CONNECTIONS)
        queues = run.wait_for_queues(server, port, CONNECTIONS)
        before = server.count(port, "ESTABLISHED")
        last.close()
        shares = accept_all(others, queues)
        shares["lost"] = before - server.count(port, "ESTABLISHED")
        step.measured(sum(shares.values()), as_shares(shares))

    with run.step(
        "{count} new connections come",
        expect=exactly(CONNECTIONS, "connections accepted by the others"),
        why="The closed listener has left the group (reuseport_detach_sock()), and nothing more "
        "is given to it.",
        count=CONNECTIONS,
    ) as step:
        client.connect_many((server.ipv4, port), CONNECTIONS)
        shares = accept_all(others, run.wait_for_queues(server, port, CONNECTIONS))
        step.measured(sum(shares.values()), by_chance(shares))


def share_datagrams(run: Run, client: Process, alice: Process, other: Process) -> None:
    """UDP has the option as well."""
    port, server = run.port(8083), alice.host
    with run.step(
        "Two processes of Alice's bind UDP sockets to {port}, with SO_REUSEPORT",
        expect=OK,
        rule="group-found",
        why="The rule of UDP is the same, of another function (udp_lib_get_port()).",
        port=port,
    ):
        group = [process.bind(port, SO_REUSEPORT, kind=SOCK_DGRAM) for process in (alice, other)]

    with run.step(
        "{count} datagrams come, each from a socket of its own",
        expect=exactly(DATAGRAMS, "datagrams that one member got"),
        see="udp",
        why="Each datagram goes to one member, by the same kind of hash, and is not copied to "
        "the others.",
        count=DATAGRAMS,
    ) as step:
        shares: dict[str, float] = {member.process.name: 0 for member in group}
        inodes = {member.inode(): member for member in group}
        for sent in range(DATAGRAMS):
            sender = client.socket(AF_INET, SOCK_DGRAM)
            sender.sendto(str(sent), (server.ipv4, port))
            (holder,) = wait_for_datagram(run, server, port)
            receiver = inodes[holder]
            shares[receiver.process.name] += receiver.recv(16) == str(sent)
        step.measured(sum(shares.values()), by_chance(shares))


def wait_for_datagram(run: Run, server: Host, port: int) -> set[int]:
    """Wait until something can be received; returns the inodes of the sockets that have it."""
    holders: set[int] = set()

    def has_come() -> bool:
        holders.update(row.inode for row in server.sockets(port) if row.receive_queue)
        return bool(holders)

    run.wait_until(has_come, "a datagram")
    return holders


def accept_all(members: Sequence[Socket], queues: dict[int, int]) -> dict[str, float]:
    """Accept what waits in each member's queue; returns how many, by process."""
    return {
        member.process.name: len(member.accept_many(queues[member.inode()])) for member in members
    }
