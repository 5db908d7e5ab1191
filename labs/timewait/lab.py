"""TIME_WAIT: which side has it, how long, and which options a restarted server needs."""

from socket import SO_REUSEADDR, SOL_SOCKET

from labs.engine.script import (
    EADDRINUSE,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    between,
    exactly,
    lab,
)


@lab(
    "timewait",
    title="A connection is in TIME_WAIT, for a minute, with its listener's options",
    claim="A port stays in TIME_WAIT for minutes after its server has ended, and SO_REUSEADDR on "
    "the new one lets it bind at once.",
)
def timewait(run: Run) -> None:
    """A server is restarted, again and again, with connections behind it."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    old = server.process("old", user="alice")
    new = server.process("new", user="alice")
    bob = server.process("bob", user="bob")
    client = elsewhere.process("client", user="bob")
    close_first(run, old, new, client, run.port(8080))
    close_second(run, old, new, client, run.port(9090))
    end_without_connections(run, server, bob, run.port(7070))
    have_the_option(run, old, new, client, run.port(6060))
    set_it_late(run, old, new, client)
    keep_a_connection(run, old, new, client)
    share_by_reuseport(run, old, bob, client, run.port(2020))
    run.conclude(
        Finding.REFUTED,
        "A connection is in TIME_WAIT, not a port: for 60 seconds by the kernel's own timer, on "
        "the side that closes first. Without connections the port is free at once. SO_REUSEADDR "
        "on the new one alone is refused: what is left needs it as well, from its listener.",
    )


def close_first(run: Run, old: Process, new: Process, client: Process, port: int) -> None:
    """The server closes first, without any option; its successor asks without and with one."""
    server = old.host
    with run.step(
        "A client connects to port {port}, the server closes first, then the client",
        expect=exactly(1, "TIME_WAIT on the server's host"),
        why="Who closes first keeps what is left, so that the last packets of this connection are "
        "not taken for those of another one (tcp_time_wait(), tcp_timewait_state_process()).",
        port=port,
    ) as left:
        listener = old.listen(port)
        leave(run, listener, client, port)
        left.measured(server.count(port, "TIME_WAIT"))

    with run.step(
        "Its timer is read",
        expect=between(55, 66, "seconds until it ends"),
        soon=True,
        why="TCP_TIMEWAIT_LEN is 60 seconds, a constant. No setting changes it: tcp_fin_timeout "
        "is about FIN_WAIT2, the state before. TIME_WAIT is observed here, not waited out.",
    ) as step:
        step.needs(left)
        listener.getsockname()  # the evidence is of the hosts whose processes make calls
        rows = [row for row in server.sockets(port) if row.timer == "TIME_WAIT"]
        step.measured(max(row.expires for row in rows) / 1000)

    with run.step(
        "The listener is closed, and its successor asks for the port",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        soon=True,
        why="Nobody listens, and no process has a socket on the port. What is in the way is the "
        "one connection in TIME_WAIT (inet_csk_bind_conflict()).",
    ) as step:
        step.needs(left)
        listener.close()
        new.listen(port)

    with run.step(
        "The successor asks with SO_REUSEADDR",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        soon=True,
        why="Both sides need the option. What is in TIME_WAIT has what its listener had when the "
        "connection came (inet_twsk_alloc() copies sk_reuse), and that was nothing.",
    ) as step:
        step.needs(left)
        new.listen(port, reuseaddr=True)


def close_second(run: Run, old: Process, new: Process, client: Process, port: int) -> None:
    """The client closes first."""
    with run.step(
        "On port {port} the client closes first, then the server",
        expect=exactly(1, "TIME_WAIT on the client's host"),
        why="Now it is the client's. It costs no server a port: it is on the port from which the "
        "client came.",
        port=port,
    ) as step:
        listener = old.listen(port)
        connected, accepted = meet(listener, client, port)
        own_port = connected.getsockname()[1]
        connected.close()
        run.wait_until_none(old.host, port, "ESTABLISHED")
        accepted.close()
        run.wait_until_none(old.host, port, "LAST_ACK")
        wait_for(run, client.host, own_port, "TIME_WAIT")
        step.measured(client.host.count(own_port, "TIME_WAIT"))

    with run.step(
        "The listener is closed, and its successor asks, without any option",
        expect=OK,
        rule="free",
        why="Nothing is left on the server's host. A protocol whose clients close first has no "
        "TIME_WAIT at the server.",
    ):
        listener.close()
        new.listen(port)


def end_without_connections(run: Run, server: Host, bob: Process, port: int) -> None:
    """A port does not get into TIME_WAIT."""
    short = server.process("short", user="alice")
    with run.step(
        "A listener on port {port} is killed by SIGKILL, and Bob asks at once",
        expect=OK,
        rule="free",
        why="It never had a connection. A listener leaves nothing behind, however its process "
        "ends: TIME_WAIT is a state of connections (inet_csk_listen_stop()).",
        port=port,
    ):
        short.listen(port)
        short.kill()
        bob.listen(port)


def have_the_option(run: Run, old: Process, new: Process, client: Process, port: int) -> None:
    """The old server had SO_REUSEADDR from the start."""
    with run.step(
        "The server on {port} had SO_REUSEADDR and left a TIME_WAIT; its successor has not",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr",
        why="The other half alone does not help either.",
        port=port,
    ):
        listener = old.listen(port, reuseaddr=True)
        leave(run, listener, client, port)
        listener.close()
        new.listen(port)

    with run.step(
        "The successor asks with SO_REUSEADDR",
        expect=OK,
        rule="both-reuseaddr",
        soon=True,
        why="Both have it, and what is left does not listen: this is the case for which servers "
        "set it, each time that they start (inet_csk_bind_conflict()).",
    ):
        new.listen(port, reuseaddr=True)


def set_it_late(run: Run, old: Process, new: Process, client: Process) -> None:
    """The option comes after bind(), on the listener or on the connection."""
    port = run.port(5050)
    with run.step(
        "On {port} the option is set between two connections; both are left, the successor has it",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="The first connection came before the option and has none, the second has it. One "
        "without is enough.",
        port=port,
    ):
        listener = old.listen(port)
        leave(run, listener, client, port)
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        leave(run, listener, client, port)
        listener.close()
        new.listen(port, reuseaddr=True)

    port = run.port(4040)
    with run.step(
        "On {port} it is set after listen(), but before the connection comes",
        expect=OK,
        rule="both-reuseaddr",
        why="The connection has what its listener had when it came (inet_csk_clone_lock()). When "
        "the listener itself was bound does not count.",
        port=port,
    ):
        listener = old.listen(port)
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        leave(run, listener, client, port)
        listener.close()
        new.listen(port, reuseaddr=True)

    port = run.port(4041)
    with run.step(
        "On {port} the accepted socket alone has it, set before it is closed",
        expect=OK,
        rule="both-reuseaddr",
        why="It is the option of that very socket which is compared. The listener, which never "
        "had it, is gone.",
        port=port,
    ):
        listener = old.listen(port)
        connected, accepted = meet(listener, client, port)
        accepted.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        part(run, accepted, connected, port)
        listener.close()
        new.listen(port, reuseaddr=True)


def keep_a_connection(run: Run, old: Process, new: Process, client: Process) -> None:
    """What is left is not in TIME_WAIT but still in use."""
    port = run.port(3030)
    with run.step(
        "On {port} a connection stays open, its listener is closed, the successor has SO_REUSEADDR",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="There is no TIME_WAIT at all. ESTABLISHED holds the port in the same way, and for as "
        "long as it lasts.",
        port=port,
    ):
        listener = old.listen(port)
        meet(listener, client, port)
        listener.close()
        new.listen(port, reuseaddr=True)

    port = run.port(3031)
    with run.step(
        "On {port} the old one has SO_REUSEADDR and still listens, the successor has it too",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks not-listening",
        why="LISTEN is the one state that the option does not pass. It lets a server come back, "
        "it does not let two overlap: a restart has a gap.",
        port=port,
    ) as step:
        listener = old.listen(port, reuseaddr=True)
        meet(listener, client, port)
        new.listen(port, reuseaddr=True)

    with run.step(
        "The listener is closed, its connection stays, and the successor asks again",
        expect=OK,
        rule="both-reuseaddr",
        why="What is left is ESTABLISHED and has the option from its listener. Old connections "
        "and the new listener are side by side.",
    ) as again:
        again.needs(step)
        listener.close()
        new.listen(port, reuseaddr=True)


def share_by_reuseport(run: Run, old: Process, bob: Process, client: Process, port: int) -> None:
    """SO_REUSEPORT asks for the user, but not in TIME_WAIT."""
    with run.step(
        "Alice listens on {port} with SO_REUSEPORT, a client connects, and Bob asks with it",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="SO_REUSEPORT on both is for one owner only, and Bob is another user (uid_eq() in "
        "inet_csk_bind_conflict()).",
        port=port,
    ) as shared:
        listener = old.listen(port, reuseport=True)
        connected, accepted = meet(listener, client, port)
        bob.listen(port, reuseport=True)

    with run.step(
        "Alice closes her listener, the connection stays, and Bob asks again",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="The accepted connection is Alice's too, and its owner is asked in the same way.",
    ) as step:
        step.needs(shared)
        listener.close()
        bob.listen(port, reuseport=True)

    with run.step(
        "Alice closes the connection, then the client, and Bob asks once more",
        expect=OK,
        rule="reuseport-after-end",
        why="What is in TIME_WAIT has no owner any more: the rule leaves out the question. A "
        "restart by SO_REUSEPORT on both works too, and here even for another user.",
    ) as step:
        step.needs(shared)
        part(run, accepted, connected, port)
        bob.listen(port, reuseport=True)


def meet(listener: Socket, client: Process, port: int) -> tuple[Socket, Socket]:
    """A connection: the client's end and the server's."""
    connected = client.connect((listener.process.host.ipv4, port))
    return connected, listener.accept()


def part(run: Run, accepted: Socket, connected: Socket, port: int) -> None:
    """Close a connection, the server's end first, which is then in TIME_WAIT."""
    server = accepted.process.host
    accepted.close()
    wait_for(run, server, port, "FIN_WAIT2")
    connected.close()
    run.wait_until_none(server, port, "FIN_WAIT2")


def leave(run: Run, listener: Socket, client: Process, port: int) -> None:
    """A connection comes and goes, and leaves a TIME_WAIT with the server."""
    connected, accepted = meet(listener, client, port)
    part(run, accepted, connected, port)


def wait_for(run: Run, host: Host, port: int, state: str) -> None:
    """Wait until one is."""
    run.wait_until(lambda: host.count(port, state) == 1, f"one in {state}")
