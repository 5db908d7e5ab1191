"""IPv4 and IPv6 on one port number: when they are one port, when two, and who gets a client."""

from socket import AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY

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
    exactly,
    lab,
)

ANY6 = "::"
LOOPBACK = "127.0.0.1"
LOOPBACK6 = "::1"
MAPPED = "::ffff:"  # what stands before an IPv4 address of an IPv6 socket
CLIENTS = 40


@lab(
    "dualstack",
    title="An IPv6 socket may have the port of all IPv4 addresses as well",
    claim="An IPv4 port and an IPv6 port of the same number are two different ports.",
)
def dualstack(run: Run) -> None:
    """Alice listens by IPv6 and Bob by IPv4, on one port number, in every way there is."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    client = elsewhere.process("client", user="bob")
    take_both_families(run, alice, bob, run.port(8080))
    turn_the_order(run, alice, bob, run.port(9090))
    compare_addresses(run, alice, bob, run.port(7070))
    ask_for_mapped_addresses(run, alice, bob, run.port(6060))
    see_a_client(run, alice, client, run.port(5050))
    share_by_reuseport(run, alice, bob, client, run.port(4040))
    run.conclude(
        Finding.CONDITIONAL,
        "the IPv6 socket sets IPV6_V6ONLY before bind(), or is bound to an IPv6 address such as "
        "::1. Without it :: is all IPv4 addresses too, and ::ffff:a.b.c.d is the IPv4 address "
        "a.b.c.d: then both are one port, in either order.",
    )


def take_both_families(run: Run, alice: Process, bob: Process, port: int) -> None:
    """The IPv6 wildcard first, with and without IPV6_V6ONLY."""
    with run.step(
        "Alice listens on port {port} of ::, without any option",
        expect=OK,
        rule="free",
        why="Nobody has the port. On Linux such a socket is dual-stack: it takes IPv6 and IPv4, "
        "unless it says otherwise or the sysctl net.ipv6.bindv6only does.",
        port=port,
    ):
        both = alice.listen(port, address=ANY6)

    with run.step(
        "Bob asks for the port on 0.0.0.0",
        expect=EADDRINUSE.by("bind"),
        rule="taken: other-address lacks their-v6only",
        why="TCP has one table of ports for both families, and :: without IPV6_V6ONLY is all IPv4 "
        "addresses too (ipv6_rcv_saddr_equal()). To ask for one of them only would not help.",
    ):
        bob.listen(port)

    with run.step(
        "Alice closes hers and listens on :: with IPV6_V6ONLY, and Bob asks for 0.0.0.0",
        expect=OK,
        rule="other-address",
        why="With the option :: is all IPv6 addresses and no other. The two never meet: only now "
        "they are two ports. It has to be set before bind(), which compares by it.",
    ):
        both.close()
        listen_v6only(alice, port)
        bob.listen(port)


def turn_the_order(run: Run, alice: Process, bob: Process, port: int) -> None:
    """The IPv4 wildcard first."""
    with run.step(
        "Bob is the first on port {port} of 0.0.0.0, and Alice asks for ::",
        expect=EADDRINUSE.by("bind"),
        rule="taken: other-address lacks my-v6only",
        why="The other order, the same answer. Alice gets no half either: a dual-stack socket has "
        "both families or none.",
        port=port,
    ):
        bob.listen(port)
        alice.listen(port, address=ANY6)

    with run.step(
        "Alice asks for :: with IPV6_V6ONLY",
        expect=OK,
        rule="other-address",
        why="This is how a server has a listener for each family. It is only her own option that "
        "counts: Bob's IPv4 socket cannot have it.",
    ):
        listen_v6only(alice, port)


def compare_addresses(run: Run, alice: Process, bob: Process, port: int) -> None:
    """One address of each family, and a wildcard beside them."""
    with run.step(
        "Alice listens on port {port} of ::1, and Bob on 127.0.0.1",
        expect=OK,
        rule="other-address",
        why="Both are called localhost, and they are two addresses that never meet. Who asks for "
        "localhost may reach Alice or Bob, by which address comes first.",
        port=port,
    ):
        alice.listen(port, address=LOOPBACK6)
        bob.listen(port, address=LOOPBACK)

    with run.step(
        "Bob asks for :: with IPV6_V6ONLY",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="The option leaves out IPv4 and nothing else: Alice's ::1 is still one of all IPv6 "
        "addresses.",
    ):
        listen_v6only(bob, port)


def ask_for_mapped_addresses(run: Run, alice: Process, bob: Process, port: int) -> None:
    """An IPv4 address written for an IPv6 socket."""
    with run.step(
        "Bob listens on port {port} of 127.0.0.1, and Alice asks for ::ffff:127.0.0.1",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="A mapped address is an IPv4 address that an IPv6 socket can write. It is Bob's, so "
        "the kernel compares the last four bytes (ipv6_rcv_saddr_equal()).",
        port=port,
    ):
        bob.listen(port, address=LOOPBACK)
        alice.listen(port, address=MAPPED + LOOPBACK)

    with run.step(
        "Alice asks for the mapped address of the host, which is free",
        expect=OK,
        rule="other-address",
        why="Her IPv6 socket is now one for IPv4 alone. Bob has the port on another IPv4 address.",
    ):
        alice.listen(port, address=MAPPED + alice.host.ipv4)

    with run.step(
        "Bob asks for that address by IPv4",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="The other order, the same answer: ::ffff: before an address makes no other of it.",
    ):
        bob.listen(port, address=bob.host.ipv4)

    with run.step(
        "Alice asks for the mapped 127.0.0.1 of a free port, with IPV6_V6ONLY",
        expect=EINVAL.by("bind"),
        rule="mapped-on-v6only",
        why="An IPv4 address on a socket that takes no IPv4 is a contradiction (__inet6_bind()). "
        "It has nothing to do with the port.",
    ):
        listen_v6only(alice, run.port(6061), MAPPED + LOOPBACK)


def see_a_client(run: Run, alice: Process, client: Process, port: int) -> None:
    """How an IPv4 client looks to a dual-stack listener."""
    server = alice.host
    with run.step(
        "Alice listens on port {port} of ::, and a client connects by IPv4",
        expect=exactly(1, "connection from a mapped address"),
        why="IPv4 packets are on the wire. The socket is IPv6, so the kernel shows the client's "
        "address as ::ffff:a.b.c.d (tcp_v6_syn_recv_sock()): logs and access rules see that.",
        port=port,
    ) as step:
        alice.listen(port, address=ANY6)
        client.connect((server.ipv4, port))
        run.wait_until(lambda: waiting(server, port, ANY6) == 1, "a connection waits")
        peers = [row.peer[0] for row in server.sockets(port) if row.state == "ESTABLISHED"]
        step.measured(peers.count(MAPPED + client.host.ipv4))


def share_by_reuseport(run: Run, alice: Process, bob: Process, client: Process, port: int) -> None:
    """A dual-stack and an IPv4 listener side by side, by SO_REUSEPORT."""
    server = alice.host
    with run.step(
        "Alice listens on port {port} of :: and of 0.0.0.0, both with SO_REUSEPORT",
        expect=OK,
        rule="remembered-reuseport",
        why="They meet in all IPv4 addresses, and may: one owner, and the option on both "
        "(inet_csk_bind_conflict()).",
        port=port,
    ) as shared:
        alice.listen(port, address=ANY6, reuseport=True)
        by_ipv4 = alice.listen(port, reuseport=True)

    with run.step(
        "Bob asks for 0.0.0.0, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="Owners are compared across families as well: Alice's :: alone would be in his way.",
    ):
        bob.listen(port, reuseport=True)

    with run.step(
        "{clients} clients come by IPv4, and as many by IPv6",
        expect=exactly(2 * CLIENTS, "connections at the listener of their own family"),
        why="There is no spreading between the two: each family has a group of its own "
        "(inet_reuseport_add_sock()), and for IPv4 a socket of IPv4 comes before a dual-stack one "
        "(inet_lhash2_lookup(), compute_score()).",
        clients=CLIENTS,
    ) as step:
        step.needs(shared)
        client.connect_many((server.ipv4, port), CLIENTS)
        wait_for_clients(run, server, port, CLIENTS)
        right = waiting(server, port, ANY)
        client.connect_many((server.ipv6, port), CLIENTS)
        wait_for_clients(run, server, port, 2 * CLIENTS)
        by_ipv4.getsockname()  # the evidence is of the hosts whose processes make calls
        step.measured(right + waiting(server, port, ANY6))

    with run.step(
        "The IPv4 listener is closed, and {clients} more clients come by IPv4",
        expect=exactly(CLIENTS, "connections more at the dual-stack listener"),
        why="It could have had them all the time, and was only second. Who comes after the end of "
        "the IPv4 listener is not refused; who waited there has lost the connection.",
        clients=CLIENTS,
    ) as step:
        step.needs(shared)
        by_ipv4.close()
        before, others = waiting(server, port, ANY6), waiting(server, port, ANY)
        client.connect_many((server.ipv4, port), CLIENTS)
        wait_for_clients(run, server, port, before + others + CLIENTS)
        step.measured(waiting(server, port, ANY6) - before)


def listen_v6only(process: Process, port: int, address: str = ANY6) -> Socket:
    """Listen by IPv6 alone."""
    socket = process.socket(AF_INET6)
    socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
    socket.bind((address, port))
    socket.listen()
    return socket


def waiting(host: Host, port: int, *addresses: str) -> int:
    """How many connections wait at the listeners that are bound to these addresses."""
    rows = [row for row in host.sockets(port) if row.state == "LISTEN"]
    return sum(row.receive_queue for row in rows if row.local[0] in addresses)


def wait_for_clients(run: Run, host: Host, port: int, count: int) -> None:
    """Wait until so many connections wait at the two wildcards together."""
    run.wait_until(lambda: waiting(host, port, ANY, ANY6) == count, f"{count} connections wait")
