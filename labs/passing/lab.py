"""Handing a listener over: by exec(), over a UNIX socket, by pidfd_getfd()."""

from labs.engine.script import (
    EADDRINUSE,
    EPERM,
    OK,
    Finding,
    Host,
    Process,
    Run,
    exactly,
    hand_over,
    lab,
)

PROGRAM = "/bin/sleep"
SECONDS = "86400"  # longer than anybody stops before the next step


@lab(
    "passing",
    title="A listener that is handed over serves its port under any user",
    claim="Only processes of the user who made a listener can serve its port.",
)
def passing(run: Run) -> None:
    """A listener goes to another program, to another user, to a supervisor."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    keep_through_exec(run, server, client)
    pass_to_bob(run, server, client)
    take_from_a_server(run, server)
    run.conclude(
        Finding.REFUTED,
        "Bob served on Alice's listener as soon as he had a descriptor of it, by SCM_RIGHTS, and "
        "no uid was compared: that happens at bind() and listen() with other sockets alone. The "
        "listener stayed Alice's, what Bob accepted was his.",
    )


def keep_through_exec(run: Run, server: Host, client: Process) -> None:
    """exec(): the program is another, the descriptor is the same."""
    port = run.port(8080)
    with run.step(
        "Alice listens, lets the descriptor be inherited, and becomes another program; Bob asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="exec() closes what is marked so (FD_CLOEXEC, do_close_on_exec()), and keeps the rest. "
        "So a service manager opens a socket and starts the server with it: socket activation.",
    ):
        starter = server.process("starter", user="alice")
        starter.listen(port).set_inheritable(True)
        starter.exec(PROGRAM, SECONDS)
        server.process("bob", user="bob").listen(port)

    with run.step(
        "A client connects",
        expect=exactly(1, "connection in the queue"),
        why="The new program has not called accept() yet, perhaps it is still reading its "
        "configuration. The connection waits: nobody is refused meanwhile.",
    ) as step:
        client.connect((server.ipv4, port))
        step.measured(sum(run.wait_for_queues(server, port, 1).values()))


def pass_to_bob(run: Run, server: Host, client: Process) -> None:
    """SCM_RIGHTS: a descriptor for another user."""
    port = run.port(8081)
    alice, bob = server.process("alice", user="alice"), server.process("bob-2", user="bob")
    with run.step(
        "Alice listens with SO_REUSEPORT, and Bob asks with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="A socket of his own would be Bob's, and the group is Alice's.",
    ):
        listener = alice.listen(port, reuseport=True)
        bob.listen(port, reuseport=True)

    with run.step(
        "Alice sends him her listener over a UNIX socket",
        expect=OK,
        why="With SCM_RIGHTS the kernel gives the receiver a descriptor of the same open file "
        "(scm_detach_fds()). Whoever gives decides; the port is not asked.",
    ):
        copy = hand_over(listener, bob)

    with run.step(
        "A client connects, and Bob accepts",
        expect=exactly(1, "connection of Bob's on a listener of Alice's"),
        why="accept() asks for no uid. It makes a new socket, whose owner is who calls it "
        "(sock_alloc()); the listener's owner stays.",
    ) as step:
        client.connect((server.ipv4, port))
        accepted = copy.accept()
        owners = {row.inode: row.uid for row in server.sockets(port)}
        found = owners[listener.inode()], owners[accepted.inode()]
        step.measured(int(found == (alice.uid("alice"), bob.uid("bob"))))

    with run.step(
        "Bob calls listen() on it once more, with another backlog",
        expect=OK,
        rule="plain",
        why="The socket is in LISTEN already: only the backlog changes (inet_listen()).",
    ):
        copy.listen(16)

    with run.step(
        "Alice's process ends, and another client connects",
        expect=OK,
        why="The last descriptor counts, and Bob has it.",
    ):
        alice.exit()
        client.connect((server.ipv4, port))
        copy.accept()

    with run.step(
        "Bob asks for a socket of his own beside it, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="What he holds is Alice's to the rule: to join it takes Alice's uid, his own does not "
        "do (inet_csk_bind_conflict()).",
    ):
        bob.listen(port, reuseport=True)

    with run.step(
        "Another process of Alice's joins instead",
        expect=OK,
        rule="remembered-reuseport",
        see="euid",
        why="The group has no member of Alice's that runs any more, but a socket of hers.",
    ):
        server.process("alice-2", user="alice").listen(port, reuseport=True)


def take_from_a_server(run: Run, server: Host) -> None:
    """pidfd_getfd(): who may trace a process may copy its descriptors."""
    port = run.port(8082)
    owner = server.process("alice-3", user="alice")
    bob = server.process("bob-3", user="bob")
    supervisor = server.process("supervisor", user="root", capabilities=["CAP_SYS_PTRACE"])
    with run.step(
        "Alice listens; a supervisor takes a copy of her listener by pidfd_getfd()",
        expect=exactly(1, "inode"),
        why="pidfd_getfd() (since 5.6) needs no help from the other process, only the right to "
        "trace it (ptrace(2)): CAP_SYS_PTRACE, or the same uids where nothing else forbids it, as "
        "Yama does and the filters of container engines.",
    ) as step:
        listener = owner.listen(port)
        copy = supervisor.pidfd_getfd(listener)
        step.measured(len({listener.inode(), copy.inode()}))

    with run.step(
        "Bob tries the same",
        expect=EPERM.by("pidfd_getfd"),
        why="He may not trace Alice's process: nobody takes a listener from another user, the "
        "other one has to give it (ptrace_may_access()).",
    ):
        bob.pidfd_getfd(listener)

    with run.step(
        "Alice's server is killed, and a client connects",
        expect=exactly(1, "connection in the queue"),
        why="The supervisor's copy is as good as Alice's was. So a listener can be taken out of a "
        "server that is about to end, even one that does not know how to pass it on.",
    ) as step:
        owner.kill()
        bob.connect((server.ipv4, port))
        step.measured(sum(run.wait_for_queues(server, port, 1).values()))
