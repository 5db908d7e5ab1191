"""The EUID rule of SO_REUSEPORT: which uid it is that two sockets on one port must share."""

from collections.abc import Sequence
from socket import SO_REUSEPORT, SOL_SOCKET

from labs.engine.script import (
    ANY,
    EADDRINUSE,
    EPERM,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    by_chance,
    close_all,
    exactly,
    lab,
)

CONNECTIONS = 40


@lab(
    "euid",
    title="Only sockets that one user made may share a port by SO_REUSEPORT",
    claim="Processes that share a port by SO_REUSEPORT must have the same EUID.",
)
def euid(run: Run) -> None:
    """Alice's group forms, others try to join it, clients come, and Alice leaves."""
    port = run.port(8080)
    server = run.host("server")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    root = server.process("root", user="root", capabilities=["CAP_SETUID"])
    members = form_group(run, alice, port)
    refuse_strangers(run, alice, bob, root, port)
    members += change_uids(run, bob, root, port)

    elsewhere = run.host("elsewhere")
    other_bob = elsewhere.process("bob-2", user="bob")
    with run.step(
        "On another host, Bob listens on the same port at once",
        expect=OK,
        rule="free",
        see="netns",
        why="A port belongs to a network namespace. Alice's sockets are in another one, and the "
        "two never meet.",
    ):
        other_bob.listen(port, reuseport=True)

    clients, accepted = serve_clients(run, server, elsewhere, port, members)
    with run.step(
        "The clients close, then the servers",
        expect=exactly(0, "connections left on the server"),
        see="timewait",
        why="A connection holds the port as well, until it is over. The side that closes first "
        "keeps it in TIME_WAIT: here the clients' host, and nothing is left on the server.",
    ) as step:
        close_all(clients)
        run.wait_until_none(server, port, "ESTABLISHED")
        close_all(accepted)
        run.wait_until_none(server, port, "LAST_ACK")
        step.measured(sum(row.state != "LISTEN" for row in server.sockets(port)))
    leave_the_port(run, bob, port, members)
    run.conclude(
        Finding.CONDITIONAL,
        "the EUID was each process's at socket() and has owned the socket since: the kernel "
        "compares the sockets' owners. A root whose socket was Alice's joined, an Alice whose "
        "socket was root's did not; and no other network namespace is asked.",
    )


def form_group(run: Run, alice: Process, port: int) -> list[Socket]:
    """Three processes of Alice's share the port; returns their listeners."""
    with run.step(
        "Alice listens on {port} with SO_REUSEPORT",
        expect=OK,
        rule="free",
        why="The port is free. The socket gets an owner: the uid of the process that made it, "
        "here Alice's.",
        port=port,
    ):
        first = alice.listen(port, reuseport=True)

    other = alice.host.process("alice-2", user="alice")
    with run.step(
        "A second process of Alice's joins",
        expect=OK,
        rule="remembered-reuseport",
        why="All sockets on the port have SO_REUSEPORT and the same owner. The processes need not "
        "be related in any other way. Each socket has an inode and an accept queue of its own.",
    ):
        second = other.listen(port, reuseport=True)

    parent = alice.host.process("parent", user="alice")
    with run.step(
        "A child that Alice forks makes its own socket and joins",
        expect=OK,
        rule="remembered-reuseport",
        why="fork() hands the uid down. A socket that the child makes itself is a new member of "
        "the group; nothing tells it from a stranger's, as long as the user is the same.",
    ):
        third = parent.fork("child").listen(port, reuseport=True)
    return [first, second, third]


def refuse_strangers(run: Run, alice: Process, bob: Process, root: Process, port: int) -> None:
    """Bob, root and a forgetful Alice ask for the port."""
    with run.step(
        "Bob asks for the port, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="The owner's uid differs. Without this rule anybody could take a share of a server's "
        "connections (inet_csk_bind_conflict(); since SO_REUSEPORT came in 3.9).",
    ):
        bob.listen(port, reuseport=True)

    with run.step(
        "Bob asks for the port, without SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks my-reuseport, same-owner",
        why="Another rule, and an older one: while one socket listens, another on its address and "
        "port needs SO_REUSEPORT, and so does the listener. No uid is looked at: see the next "
        "step.",
    ):
        bob.listen(port)

    with run.step(
        "Alice herself asks for it, without SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks my-reuseport",
        see="reuseport",
        why="The right user, but not the option on both sides: every member has to set it.",
    ):
        alice.listen(port)

    with run.step(
        "Root asks for the port, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="The kernel compares uids and asks for no capability: to this rule root is one more "
        "user, and another one.",
    ):
        root.listen(port, reuseport=True)


def change_uids(run: Run, bob: Process, root: Process, port: int) -> list[Socket]:
    """Which of a process's uids counts, and when it is read; returns the sockets that joined."""
    server = root.host
    with run.step(
        "Root takes Alice's EUID, makes a socket, takes root back, binds",
        expect=OK,
        rule="remembered-reuseport",
        why="socket() fixed the owner. It is root who binds; the socket that is bound is Alice's.",
    ):
        root.seteuid("alice")
        made_as_alice = reuseport_socket(root)
        root.seteuid("root")
        bind_and_listen(made_as_alice, port)

    dropper = server.process("dropper", user="root", capabilities=["CAP_SETUID"])
    with run.step(
        "Root makes a socket, becomes Alice for good, binds",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="The other way round: the process is all Alice's, its socket is still root's. A "
        "server that opens its socket before it drops its privileges meets this.",
    ):
        made_as_root = reuseport_socket(dropper)
        dropper.setuid("alice")
        bind_and_listen(made_as_root, port)

    manager = server.process("manager", user="root", capabilities=["CAP_CHOWN"])
    with run.step(
        "Root makes a socket, hands it to Alice with fchown(), binds",
        expect=OK,
        rule="remembered-reuseport",
        why="The owner is the one in the socket's inode, and fchown() changes it. So a manager "
        "that runs as root can open sockets for the group of another user.",
    ):
        given = reuseport_socket(manager)
        given.fchown("alice")
        bind_and_listen(given, port)

    with run.step(
        "Bob tries to hand his socket to Alice in the same way",
        expect=EPERM.by("fchown"),
        why="Giving away an inode takes CAP_CHOWN, for a socket as for a file.",
    ):
        reuseport_socket(bob).fchown("alice")

    mixed = server.process("mixed", user="root", capabilities=["CAP_SETUID"])
    with run.step(
        "A process whose real uid is Alice's and effective uid is Bob's asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="The real uid does not count: what this process makes is Bob's.",
    ):
        mixed.setresuid("alice", "bob", "bob")
        bind_and_listen(reuseport_socket(mixed), port)

    twisted = server.process("twisted", user="root", capabilities=["CAP_SETUID"])
    with run.step(
        "A process with Alice's EUID and root's file-system uid asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="Strictly it is not the EUID either. socket() takes the file-system uid, which "
        "follows the EUID unless setfsuid() parts the two (sock_alloc()).",
    ):
        twisted.seteuid("alice")
        twisted.setfsuid("root")
        bind_and_listen(reuseport_socket(twisted), port)
    return [made_as_alice, given]


def serve_clients(
    run: Run, server: Host, elsewhere: Host, port: int, members: Sequence[Socket]
) -> tuple[list[Socket], list[Socket]]:
    """Connections reach the group and nobody else; returns their clients' and servers' ends."""
    client = elsewhere.process("client", user="bob")
    with run.step(
        "{count} connections come from another host",
        expect=exactly(CONNECTIONS, "connections accepted by the group"),
        see="balance",
        why="A hash of addresses and ports picks the member, so shares differ by chance. Whoever "
        "was refused gets nothing; a member counts by its socket's owner, not by its process's.",
        count=CONNECTIONS,
    ) as step:
        connected = client.connect_many((server.ipv4, port), CONNECTIONS)
        queues = run.wait_for_queues(server, port, CONNECTIONS)
        accepted = [member.accept_many(queues[member.inode()]) for member in members]
        shares = {
            member.process.name: len(got) for member, got in zip(members, accepted, strict=True)
        }
        step.measured(sum(shares.values()), by_chance(shares))
    return connected, [socket for got in accepted for socket in got]


def leave_the_port(run: Run, bob: Process, port: int, members: Sequence[Socket]) -> None:
    """Bob gets the port when nothing of Alice's is left on it, and not before."""
    last, *others = members
    with run.step(
        "All listeners of the group but Alice's are closed, and Bob asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="A port has no owner of its own. As long as one socket of Alice's is bound to it, "
        "Bob's has to get along with that one.",
    ):
        close_all(others)
        bob.listen(port, reuseport=True)

    with run.step(
        "Alice closes hers, and Bob asks again",
        expect=OK,
        rule="free",
        why="The port is free, and the next group is Bob's: now it is Alice who would be refused.",
    ):
        last.close()
        bob.listen(port, reuseport=True)


def reuseport_socket(process: Process) -> Socket:
    """A new TCP socket of a process, with SO_REUSEPORT."""
    new = process.socket()
    new.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
    return new


def bind_and_listen(socket: Socket, port: int) -> None:
    """Bind a socket to all IPv4 addresses, and listen."""
    socket.bind((ANY, port))
    socket.listen()
