"""One listener and many processes: what fork() shares, and until when."""

from socket import SHUT_RDWR

from labs.engine.script import (
    EADDRINUSE,
    EINVAL,
    OK,
    Finding,
    Host,
    Process,
    Run,
    as_shares,
    exactly,
    lab,
)

WORKERS = 4
CONNECTIONS = 40


@lab(
    "fork",
    title="fork() copies a descriptor: one listener, one queue, many processes",
    claim="Processes that share a listener by fork() need a lock of their own to share out the "
    "connections, and who gets one is in no fixed order.",
)
def fork(run: Run) -> None:
    """A listener is inherited, used by all, shut by one, and kept by one who forgot it."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    share_one_socket(run, server, client)
    fork_for_each(run, server, client)
    accept_in_turn(run, server)
    race_with_epoll(run, server)
    stop_for_all(run, server)
    forget_to_close(run, server)
    run.conclude(
        Finding.REFUTED,
        "no lock was used, and each of {count} connections was handed out once. In a blocking "
        "accept() they went round in turn, {each} to each of {workers}; only with epoll it is a "
        "race.",
        count=CONNECTIONS,
        each=CONNECTIONS // WORKERS,
        workers=WORKERS,
    )


def share_one_socket(run: Run, server: Host, client: Process) -> None:
    """Parent and child have one socket, with one queue."""
    parent = server.process("parent", user="alice")
    port = run.port(8080)
    with run.step(
        "Alice listens on {port} and forks",
        expect=OK,
        rule="free",
        why="The child gets a copy of the descriptor, which leads to the same socket "
        "(dup_fd() in copy_files()). Nothing was bound twice, and nobody was asked.",
        port=port,
    ):
        listener = parent.listen(port)
        child = parent.fork("child")

    with run.step(
        "Parent and child look at their listener",
        expect=exactly(1, "inode"),
        why="One socket: one inode, one owner, one accept queue, held by two processes.",
    ) as step:
        step.measured(len({listener.inode(), child.inherited(listener).inode()}))

    with run.step(
        "Two connections come; the parent accepts one, the child the other",
        expect=exactly(2, "connections accepted from one queue"),
        why="Both take from the same queue (reqsk_queue_remove()), which gives each connection "
        "to one of them.",
    ) as step:
        client.connect_many((server.ipv4, port), 2)
        accepted = [listener.accept(), child.inherited(listener).accept()]
        step.measured(len({connection.inode() for connection in accepted}))

    with run.step(
        "The child binds its copy once more",
        expect=EINVAL.by("bind"),
        rule="bound-already",
        why="It is the parent's socket as well, and that one is bound (__inet_bind()).",
    ):
        child.inherited(listener).bind((server.ipv4, run.port(8081)))


def fork_for_each(run: Run, server: Host, client: Process) -> None:
    """One process accepts, and forks a child for each connection."""
    parent = server.process("master", user="alice")
    port = run.port(8082)
    with run.step(
        "A master accepts a connection and forks a child to serve it",
        expect=exactly(1, "answer that the client got"),
        why="fork for each connection: the child inherits the accepted socket too. It answers; "
        "parent and child each close what is the other's.",
    ) as step:
        listener = parent.listen(port)
        connected = client.connect((server.ipv4, port))
        accepted = listener.accept()
        child = parent.fork("servant")
        accepted.close()
        child.inherited(listener).close()
        child.inherited(accepted).send("hello")
        step.measured(int(connected.recv(16) == "hello"))

    with run.step(
        "The child ends without a close(), and the client reads on",
        expect=exactly(0, "bytes until the end of the stream"),
        why="The child's was the last copy of the connection, so its end closes it. Had the "
        "master kept his, the client would wait for ever.",
    ) as step:
        child.kill()
        step.measured(len(connected.recv(16)))


def accept_in_turn(run: Run, server: Host) -> None:
    """Pre-fork with blocking accept(): first come, first served."""
    with run.step(
        "{workers} children wait in accept(), and {count} connections come one by one",
        expect=exactly(CONNECTIONS // WORKERS, "connections for each, the most and the fewest"),
        see="herd",
        why="Who has waited longest is woken first (prepare_to_wait_exclusive() in "
        "inet_csk_wait_for_connect()), and then stands at the end: a strict rotation while all "
        "are idle. The kernel needs no lock of theirs.",
        workers=WORKERS,
        count=CONNECTIONS,
    ) as step:
        shares = share_out(server, "accept", run.port(8083))
        fewest, most = min(shares.values()), max(shares.values())
        step.measured(most if most == fewest else 0, as_shares(shares))


def race_with_epoll(run: Run, server: Host) -> None:
    """Pre-fork with epoll: all are told."""
    with run.step(
        "They wait with epoll instead",
        expect=exactly(CONNECTIONS, "connections accepted, each once"),
        see="herd",
        why="All are told, and the first to call accept() has it: a race. Shares may be anything, "
        "their sum may not. How many wake in vain, the lab herd counts.",
    ) as step:
        shares = share_out(server, "epoll", run.port(8084))
        step.measured(sum(shares.values()), as_shares(shares))


def stop_for_all(run: Run, server: Host) -> None:
    """shutdown() is about the socket, close() about a descriptor."""
    parent, bob = server.process("keeper", user="alice"), server.process("bob", user="bob")
    port = run.port(8085)
    with run.step(
        "A parent closes its listener, its child keeps it; Bob asks for the port",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="close() gives up a descriptor. The socket lives until the last copy is closed, and "
        "it still listens.",
    ):
        listener = parent.listen(port)
        child = parent.fork("heir")
        listener.close()
        bob.listen(port)

    with run.step(
        "The parent is killed, and a client connects",
        expect=exactly(1, "connection in the queue"),
        why="The child has the listener with its queue, and whoever made it is not missed.",
    ) as step:
        parent.kill()
        visitor = server.process("visitor", user="bob")
        visitor.connect((server.ipv4, port))
        step.measured(sum(run.wait_for_queues(server, port, 1).values()))

    with run.step(
        "A child of the child shuts the listener down, and the child calls accept()",
        expect=EINVAL.by("accept"),
        why="shutdown() ends the listening of the socket itself, for all who hold it "
        "(inet_csk_listen_stop()). Where one means only oneself, one calls close().",
    ):
        grandchild = child.fork("grandchild")
        grandchild.inherited(listener).shutdown(SHUT_RDWR)
        child.inherited(listener).accept()


def forget_to_close(run: Run, server: Host) -> None:
    """A child that has nothing to do with the listener holds its port."""
    parent = server.process("first", user="alice")
    port = run.port(8086)
    with run.step(
        "A server forks a helper and ends; its successor asks for the port",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks my-reuseport, their-reuseport",
        why="The helper was forked for something else, but it has every descriptor. This is what "
        "it looks like when a port stays taken and no server runs.",
    ):
        parent.listen(port)
        helper = parent.fork("helper")
        parent.exit()
        server.process("successor", user="alice").listen(port)

    with run.step(
        "The helper becomes another program, and a second successor asks",
        expect=OK,
        rule="free",
        see="passing",
        why="Python opens sockets so that exec() closes them (SOCK_CLOEXEC). In a program that "
        "does not, the new one would hold the port as well.",
    ):
        helper.exec("/bin/sleep", "60")
        # The kernel releases what exec() closes a moment after the program has begun.
        run.wait_until_none(server, port, "LISTEN")
        server.process("successor-2", user="alice").listen(port)


def share_out(server: Host, way: str, port: int) -> dict[str, float]:
    """Fork workers that wait so, let connections come when all sleep; how many each accepted."""
    parent = server.process(way, user="alice")
    listener = parent.listen(port)
    copies = parent.fork_holders(listener, way, WORKERS)
    for copy in copies:
        copy.serve(way)
    workers = [copy.process for copy in copies]
    client = server.process(f"{way}-client", user="bob")
    client.request_from_sleep((server.ipv4, port), CONNECTIONS, workers)
    return {worker.name: worker.stop_serving().accepted for worker in workers}
