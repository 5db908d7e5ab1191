"""One listener a port: what exactly it is that is taken, and until when."""

from socket import SHUT_RDWR, SOCK_DGRAM

from labs.engine.script import (
    ANY,
    EADDRINUSE,
    OK,
    Finding,
    Host,
    Process,
    Run,
    exactly,
    lab,
)

LOOPBACK = "127.0.0.1"


@lab(
    "unique",
    title="A port is taken for an address, a protocol and a network namespace",
    claim="One port can be bound and listened on by one process only.",
)
def unique(run: Run) -> None:
    """Alice and Bob ask for one port, without any option, in every way there is."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    port = run.port(8080)
    compare_addresses(run, alice, bob, port)
    compare_what_else(run, alice, elsewhere, port)
    end_a_listener(run, alice, bob, port)
    ignore_the_refusal(run, server, port)
    keep_without_listening(run, server, run.port(9090))
    keep_by_a_connection(run, server, elsewhere, run.port(7070))
    run.conclude(
        Finding.CONDITIONAL,
        "neither socket sets an option, and the two meet in address, protocol and network "
        "namespace. What holds a port is a socket and no process: the same process gets no "
        "second one, and a connection holds it on when its listener is gone.",
    )


def compare_addresses(run: Run, alice: Process, bob: Process, port: int) -> None:
    """All addresses and one of them, in both orders; leaves Bob's on one, Alice's on another."""
    address = alice.host.ipv4
    with run.step(
        "Alice listens on port {port} of all addresses",
        expect=OK,
        rule="free",
        why="Nobody has the port on this host.",
        port=port,
    ):
        everywhere = alice.listen(port)

    with run.step(
        "Bob asks for the same",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="A socket has the port on the same addresses, and without an option there is no "
        "second one (inet_csk_bind_conflict()).",
    ):
        bob.listen(port)

    with run.step(
        "Alice herself asks for it once more",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks my-reuseport, their-reuseport",
        why="Neither a process nor a user has the port: a socket has. Her first one is in the way "
        "of her second.",
    ):
        alice.listen(port)

    with run.step(
        "Bob asks for it on one address only",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="The wildcard 0.0.0.0 is all addresses, this one too. Addresses need not be equal to "
        "be in the way, it is enough that they meet (inet_rcv_saddr_equal()).",
    ):
        bob.listen(port, address=address)

    with run.step(
        "Alice closes hers, and Bob asks again for the one address",
        expect=OK,
        rule="free",
        why="A listener without connections leaves nothing behind, no TIME_WAIT either: the port "
        "is free at once.",
    ):
        everywhere.close()
        bob.listen(port, address=address)

    with run.step(
        "Alice asks for all addresses",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="The other order, the same answer: all addresses are not free while Bob has one.",
    ):
        alice.listen(port)

    with run.step(
        "Alice asks for another address",
        expect=OK,
        rule="other-address",
        why="The two never meet: on one port each address is a place of its own.",
    ):
        alice.listen(port, address=LOOPBACK)


def compare_what_else(run: Run, alice: Process, elsewhere: Host, port: int) -> None:
    """Another protocol and another network namespace do not meet either."""
    with run.step(
        "Alice binds a UDP socket to the port, on all addresses",
        expect=OK,
        rule="free",
        why="TCP and UDP each have a table of ports. They share the numbers and nothing else.",
    ):
        alice.socket(kind=SOCK_DGRAM).bind((ANY, port))

    other = elsewhere.process("alice-2", user="alice")
    with run.step(
        "On another host a process listens on the port of all addresses",
        expect=OK,
        rule="free",
        see="netns",
        why="All addresses are those of its own network namespace. Sockets of different ones are "
        "never compared (net_eq()).",
    ):
        other.listen(port)


def end_a_listener(run: Run, alice: Process, bob: Process, port: int) -> None:
    """What gives the port back, and what does not."""
    address = alice.host.ipv4
    other_port = run.port(6060)
    worker = bob.host.process("worker", user="bob")
    with run.step(
        "Bob's listener is shut down but not closed, and Alice asks for its address",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        why="shutdown() ends the listening and keeps the binding: a socket on which one has called "
        "bind() keeps its port until it is closed (SOCK_BINDPORT_LOCK).",
    ):
        waiting = worker.listen(other_port, address=address)
        waiting.shutdown(SHUT_RDWR)
        alice.listen(other_port, address=address)

    with run.step(
        "Bob's first process is killed, and Alice asks for the address that it had",
        expect=OK,
        rule="other-address",
        why="The kernel closes what a process leaves, by SIGKILL too. Without connections the "
        "port is free when the process is gone.",
    ):
        bob.kill()
        alice.listen(port, address=address)


def ignore_the_refusal(run: Run, server: Host, port: int) -> None:
    """A program that does not look at what bind() answers."""
    careless = server.process("careless", user="bob")
    with run.step(
        "A careless process of Bob's asks for the port",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="The refusal is loud. But the socket is still there, and it is bound to nothing.",
    ):
        socket = careless.socket()
        socket.bind((ANY, port))

    with run.step(
        "It calls listen() all the same",
        expect=exactly(1, "listener on a port that nobody chose"),
        why="To listen without a port gets one from the ephemeral range (inet_csk_listen_start()). "
        "The program runs, nobody reaches it, and no call has told it so.",
    ) as step:
        socket.listen()
        step.measured(int(socket.getsockname()[1] not in (0, port)))


def keep_without_listening(run: Run, server: Host, port: int) -> None:
    """A bound socket has the port, whether it ever listens or not."""
    idle = server.process("idle", user="alice")
    asker = server.process("asker", user="bob")
    with run.step(
        "A process of Alice's binds a socket to {port} and does no more",
        expect=OK,
        rule="free",
        why="To bind is to take. No packet has come or gone, and nobody could connect.",
        port=port,
    ):
        bound = idle.socket()
        bound.bind((ANY, port))

    with run.step(
        "Bob asks for that port",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        why="Whether the other one listens is asked only where both set SO_REUSEADDR.",
    ):
        asker.listen(port)


def keep_by_a_connection(run: Run, server: Host, elsewhere: Host, port: int) -> None:
    """Connections hold a port as well, at both of their ends."""
    holder = server.process("holder", user="alice")
    successor = server.process("successor", user="alice")
    client = elsewhere.process("client", user="bob")
    neighbour = elsewhere.process("neighbour", user="bob")
    with run.step(
        "A client connects, the listener is closed, and its successor asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        see="timewait",
        why="The accepted connection has the listener's address and port, and holds them. This is "
        "what a server meets that is restarted while its clients stay.",
    ) as held:
        listener = holder.listen(port)
        connected = client.connect((server.ipv4, port))
        accepted = listener.accept()
        listener.close()
        successor.listen(port)

    with run.step(
        "On the client's host another process asks for the port from which it came",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        why="The client never called bind(): connect() chose a port for it, and that is as taken "
        "as any other.",
    ):
        neighbour.listen(connected.getsockname()[1])

    with run.step(
        "The client closes, then the server, and the successor asks again",
        expect=OK,
        rule="free",
        see="timewait",
        why="The last socket on the port is gone. What is left of the connection, TIME_WAIT, is "
        "with the side that closed first: here the client's.",
    ) as step:
        step.needs(held)
        connected.close()
        run.wait_until_none(server, port, "ESTABLISHED")
        accepted.close()
        run.wait_until_none(server, port, "LAST_ACK")
        successor.listen(port)
