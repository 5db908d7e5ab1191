"""UDP: who may bind a port beside another socket, and which of them gets a datagram."""

from collections import Counter
from collections.abc import Sequence
from socket import (
    IP_ADD_MEMBERSHIP,
    IP_MULTICAST_IF,
    IPPROTO_IP,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SOCK_DGRAM,
    inet_aton,
)

from labs.engine.script import (
    ANY,
    EADDRINUSE,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    between,
    close_all,
    exactly,
    lab,
)

LOOPBACK = "127.0.0.1"
GROUP = "239.77.0.1"  # of those that anybody may use in a network of one's own
IP_MULTICAST_ALL = 49  # linux/in.h
DATAGRAMS = 4
SENDERS = 40
TEXT = "for Alice"


@lab(
    "udp",
    title="With SO_REUSEADDR a UDP port's datagrams go to whoever binds it last",
    claim="Who has bound a UDP port first receives what is sent to it, as a TCP listener does.",
)
def udp(run: Run) -> None:
    """Alice waits for datagrams, and Bob wants them."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    client = elsewhere.process("client", user="alice")
    do_without(run, alice, bob, run.port(8080))
    take_by_reuseaddr(run, alice, bob, client, run.port(9090))
    share_by_reuseport(run, alice, bob, client, run.port(7070))
    open_the_group(run, alice, bob, client, run.port(7071))
    prefer_the_peer(run, alice, bob, client, run.port(6060))
    prefer_the_address(run, alice, bob, client, run.port(5050))
    reach_all_members(run, alice, bob, run.port(4040))
    reach_a_group(run, alice, run.port(4041))
    run.conclude(
        Finding.CONDITIONAL,
        "the first socket sets neither SO_REUSEADDR nor SO_REUSEPORT. With SO_REUSEADDR on both "
        "any user may bind as well, and the last one gets every datagram, until it is closed. "
        "SO_REUSEPORT shares by a hash within one user. Multicast goes to all.",
    )


def do_without(run: Run, alice: Process, bob: Process, port: int) -> None:
    """No option, or an option on one side."""
    with run.step(
        "Alice binds a UDP socket to port {port} of all addresses, without any option",
        expect=OK,
        rule="free",
        why="Nobody has the port. There is no listen() in UDP: from now on datagrams may come.",
        port=port,
    ):
        bind(alice, port)

    with run.step(
        "Bob asks for the same",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        why="As with TCP, a socket whose addresses meet is in the way (udp_lib_lport_inuse()).",
    ):
        bind(bob, port)

    with run.step(
        "Bob asks with SO_REUSEADDR",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="Both need the option. Who never sets it keeps the port alone.",
    ):
        bind(bob, port, SO_REUSEADDR)


def take_by_reuseaddr(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """Both have SO_REUSEADDR, and they are different users."""
    target = (alice.host.ipv4, port)
    with run.step(
        "On port {port} Alice has SO_REUSEADDR, and Bob binds with it too",
        expect=OK,
        rule="both-reuseaddr",
        why="TCP refuses this while one listens. UDP has no LISTEN, so nothing is left to refuse, "
        "and this option asks for no user (udp_lib_lport_inuse()).",
        port=port,
    ) as both:
        first = bind(alice, port, SO_REUSEADDR)
        bobs = bind(bob, port, SO_REUSEADDR)

    with run.step(
        "A client sends {datagrams} datagrams, which it means for Alice",
        expect=exactly(DATAGRAMS, "datagrams at Bob's"),
        why="Of equal sockets the first in the table is taken, and bind() puts a new one at the "
        "front (udp4_lib_lookup2(), udp_lib_get_port()). Alice gets no error, only silence.",
        datagrams=DATAGRAMS,
    ) as step:
        step.needs(both)
        sender = bind(client, 0)
        step.measured(send(run, alice.host, [sender] * DATAGRAMS, target)[bobs.inode()])
        bobs.recv(len(TEXT))

    with run.step(
        "Alice binds one more socket, and the client sends again",
        expect=exactly(DATAGRAMS, "datagrams at Alice's second"),
        why="Now hers is the last. Neither the user nor who was there first counts.",
    ) as step:
        step.needs(both)
        second = bind(alice, port, SO_REUSEADDR)
        step.measured(send(run, alice.host, [sender] * DATAGRAMS, target)[second.inode()])

    with run.step(
        "Her second socket and Bob's are closed, and the client sends again",
        expect=exactly(DATAGRAMS, "datagrams at Alice's first"),
        why="It was there all the time, and only behind. What had come to Bob is gone with his.",
    ) as step:
        step.needs(both)
        second.close()
        bobs.close()
        step.measured(send(run, alice.host, [sender] * DATAGRAMS, target)[first.inode()])


def share_by_reuseport(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """A group of one user's sockets."""
    target = (alice.host.ipv4, port)
    with run.step(
        "Alice binds two sockets to port {port}, both with SO_REUSEPORT",
        expect=OK,
        rule="group-found",
        why="One owner, and the option on both: a reuseport group, as with TCP "
        "(udp_reuseport_add_sock()).",
        port=port,
    ) as group:
        members = [bind(alice, port, SO_REUSEPORT) for _ in range(2)]

    with run.step(
        "Bob asks with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: group-found lacks same-owner",
        see="euid",
        why="This option asks whose socket it is: Bob is another user (uid_eq() in "
        "udp_lib_lport_inuse()).",
    ):
        bind(bob, port, SO_REUSEPORT)

    with run.step(
        "A client sends {senders} datagrams, each from another port",
        expect=between(1, SENDERS - 1, "datagrams at one of the two"),
        why="A hash of both addresses and both ports names the member (udp_ehashfn(), "
        "reuseport_select_sock()): both get some, and no part is promised.",
        senders=SENDERS,
    ) as step:
        step.needs(group)
        senders = [bind(client, 0) for _ in range(SENDERS)]
        got = send(run, alice.host, senders, target)
        step.measured(got[members[0].inode()])
        close_all(senders)

    with run.step(
        "It sends {datagrams} more, all from one port",
        expect=exactly(DATAGRAMS, "datagrams at one and the same"),
        why="The same ports, the same hash: a member keeps a client as long as the group stays as "
        "it is.",
        datagrams=DATAGRAMS,
    ) as step:
        step.needs(group)
        sender = bind(client, 0)
        got = send(run, alice.host, [sender] * DATAGRAMS, target)
        step.measured(max(got[member.inode()] for member in members))


def open_the_group(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """A group whose members have the other option as well."""
    with run.step(
        "On {port} Alice has both options; Bob binds with SO_REUSEADDR, and a client sends",
        expect=exactly(DATAGRAMS, "datagrams at Bob's"),
        why="Either option is enough by itself: SO_REUSEADDR lets in whom SO_REUSEPORT would have "
        "refused, and Bob is the last.",
        port=port,
    ) as step:
        bind(alice, port, SO_REUSEADDR, SO_REUSEPORT)
        bobs = bind(bob, port, SO_REUSEADDR)
        sender = bind(client, 0)
        got = send(run, alice.host, [sender] * DATAGRAMS, (alice.host.ipv4, port))
        step.measured(got[bobs.inode()])


def prefer_the_peer(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """A socket that has a peer, and a later one that has none."""
    target = (alice.host.ipv4, port)
    with run.step(
        "On {port} Alice's socket is connected to a client, and Bob's is bound after it",
        expect=exactly(DATAGRAMS, "datagrams of that client at Alice's"),
        why="connect() names a peer, and what comes from there fits this socket best "
        "(compute_score()): to be the last does not help Bob.",
        port=port,
    ) as connected:
        sender = bind(client, 0)
        alices = bind(alice, port, SO_REUSEADDR)
        alices.connect((client.host.ipv4, sender.getsockname()[1]))
        bobs = bind(bob, port, SO_REUSEADDR)
        got = send(run, alice.host, [sender] * DATAGRAMS, target)
        connected.measured(got[alices.inode()])

    with run.step(
        "The client sends from another port",
        expect=exactly(DATAGRAMS, "datagrams at Bob's"),
        why="A connected socket gets nothing from anybody else. Every other client is Bob's.",
    ) as step:
        step.needs(connected)
        got = send(run, alice.host, [bind(client, 0)] * DATAGRAMS, target)
        step.measured(got[bobs.inode()])


def prefer_the_address(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """A socket on one address, and a later one on all."""
    address = alice.host.ipv4
    with run.step(
        "On {port} Alice has the host's address, Bob later the wildcard, and a client sends",
        expect=exactly(DATAGRAMS, "datagrams at Alice's"),
        why="Sockets on the very address are looked up first, those on 0.0.0.0 only when there "
        "are none (__udp4_lib_lookup()). It works the other way round too: Bob could be the one.",
        port=port,
    ) as step:
        alices = bind(alice, port, SO_REUSEADDR, address=address)
        bind(bob, port, SO_REUSEADDR)
        sender = bind(client, 0)
        got = send(run, alice.host, [sender] * DATAGRAMS, (address, port))
        step.measured(got[alices.inode()])


def reach_all_members(run: Run, alice: Process, bob: Process, port: int) -> None:
    """Multicast: who has joined, and who only has the port."""
    curious = bob.host.process("curious", user="bob")
    sender = bob.host.process("sender", user="alice")
    with run.step(
        "Three sockets share port {port} by SO_REUSEADDR; Alice and Bob join a multicast group",
        expect=OK,
        rule="both-reuseaddr",
        why="For this the option is in UDP: a group has many listeners on a host. The third is "
        "Bob's too, and has the port but does not join.",
        port=port,
    ) as shared:
        third = bind(curious, port, SO_REUSEADDR)
        members = [bind(process, port, SO_REUSEADDR) for process in (alice, bob)]
        for member in members:
            join(member)

    with run.step(
        "One datagram is sent to the group",
        expect=exactly(3, "sockets that got it"),
        why="Each socket gets a copy (__udp4_lib_mcast_deliver()). The third too: on 0.0.0.0 it "
        "has what anybody on this host has joined (ip_mc_sf_allow()).",
    ) as step:
        step.needs(shared)
        source = make_multicast_sender(sender)
        step.measured(multicast(run, source, port, members))

    with run.step(
        "The third sets IP_MULTICAST_ALL to 0, and one more datagram is sent",
        expect=exactly(2, "sockets that got it"),
        why="Now it gets only what it has joined itself, which is nothing.",
    ) as step:
        step.needs(shared)
        third.setsockopt(IPPROTO_IP, IP_MULTICAST_ALL, 0)
        step.measured(multicast(run, source, port, members))


def reach_a_group(run: Run, alice: Process, port: int) -> None:
    """Multicast for the members of a reuseport group."""
    with run.step(
        "On {port} two sockets of Alice's with SO_REUSEPORT join; one datagram is sent",
        expect=exactly(2, "sockets that got it"),
        why="Multicast does not ask the group's hash: there is no sharing, each member gets a "
        "copy (__udp4_lib_mcast_deliver()).",
        port=port,
    ) as step:
        members = [bind(alice, port, SO_REUSEPORT) for _ in range(2)]
        for member in members:
            join(member)
        step.measured(multicast(run, make_multicast_sender(alice), port, members))


def bind(process: Process, port: int, *options: int, address: str = ANY) -> Socket:
    """A UDP socket with these options, bound."""
    return process.bind(port, *options, address=address, kind=SOCK_DGRAM)


def join(socket: Socket) -> None:
    """Join the multicast group on the loopback interface: a struct ip_mreq."""
    request = (inet_aton(GROUP) + inet_aton(LOOPBACK)).decode("latin-1")
    socket.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, request)


def make_multicast_sender(process: Process) -> Socket:
    """A UDP socket whose multicast goes out by the loopback interface."""
    socket = process.socket(kind=SOCK_DGRAM)
    socket.setsockopt(IPPROTO_IP, IP_MULTICAST_IF, inet_aton(LOOPBACK).decode("latin-1"))
    return socket


def queues(host: Host, port: int) -> dict[int, int]:
    """What waits in each socket on the port, by its inode."""
    return {row.inode: row.receive_queue for row in host.sockets(port)}


def grown(host: Host, port: int, before: dict[int, int]) -> list[int]:
    """The sockets in which more waits than before."""
    return [inode for inode, size in queues(host, port).items() if size > before[inode]]


def send(run: Run, host: Host, senders: Sequence[Socket], target: tuple[str, int]) -> Counter[int]:
    """Send a datagram from each, when that before it has come: how many came to which socket."""
    port, got = target[1], Counter[int]()
    for sender in senders:
        before = queues(host, port)
        sender.sendto(TEXT, target)
        got.update(wait_for_growth(run, host, port, before))
    return got


def wait_for_growth(run: Run, host: Host, port: int, before: dict[int, int]) -> list[int]:
    """Wait until a datagram has come: to whom."""
    run.wait_until(lambda: bool(grown(host, port, before)), "a datagram has come")
    return grown(host, port, before)


def multicast(run: Run, sender: Socket, port: int, members: Sequence[Socket]) -> int:
    """Send a datagram to the group: how many sockets got it.

    The kernel serves the socket that was bound last at the end: it is to be one of the members.
    """
    host = sender.process.host
    expected = {member.inode() for member in members}
    before = queues(host, port)
    sender.sendto(TEXT, (GROUP, port))
    run.wait_until(lambda: expected <= {*grown(host, port, before)}, "all members have it")
    return len(grown(host, port, before))
