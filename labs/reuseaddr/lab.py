"""SO_REUSEADDR on Linux: who may bind with it, who may listen, and who slips in between."""

from socket import SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET

from labs.engine.script import (
    EADDRINUSE,
    FROM_RULES,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Step,
    exactly,
    lab,
)


@lab(
    "reuseaddr",
    title="With SO_REUSEADDR many may bind, one may listen, and nobody's uid is compared",
    claim="With SO_REUSEADDR several processes can bind one port, but only one can serve; the "
    "others fail silently.",
)
def reuseaddr(run: Run) -> None:
    """Alice and Bob bind the same port and race for listen()."""
    server = run.host("server")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    race_to_listen(run, alice, bob)
    meet_a_listener(run, alice, bob)
    slip_in(run, server, alice, bob)
    aside = prevent(run, alice, bob)
    block_each_other(run, alice, bob)
    run.conclude(
        Finding.CONDITIONAL,
        "all of them have the option, and none listens yet: then any user may bind. The first "
        "listen() wins, and nobody else fails silently: bind() and listen() say EADDRINUSE.",
        aside=aside,
    )


def race_to_listen(run: Run, alice: Process, bob: Process) -> None:
    """Both bind; the first to listen has the port."""
    port = run.port(8080)
    with run.step(
        "Alice binds a socket with SO_REUSEADDR, and so does Bob",
        expect=OK,
        rule="both-reuseaddr" if run.kernel >= (6, 8) else "remembered-reuseaddr",
        why="Both have the option and neither listens: that is all that "
        "inet_csk_bind_conflict() asks. Who they are it does not ask.",
    ):
        hers = alice.bind(port, SO_REUSEADDR)
        his = bob.bind(port, SO_REUSEADDR)

    with run.step(
        "Bob calls listen()",
        expect=OK,
        rule="both-reuseaddr",
        why="listen() asks for the port once more (inet_csk_listen_start()). As nobody else "
        "listens, it is Bob's, though Alice came first.",
    ):
        his.listen()

    with run.step(
        "Alice calls listen()",
        expect=EADDRINUSE.by("listen"),
        rule="taken: both-reuseaddr lacks not-listening",
        why="Bob's socket is in LISTEN, and the option is no use against a listener. This is not "
        "silent: who checks what listen() returns knows.",
    ):
        hers.listen()

    with run.step(
        "Bob closes his, and Alice calls listen() again",
        expect=OK,
        rule="free",
        why="Her socket was bound all the time, and now nobody listens.",
    ):
        his.close()
        hers.listen()


def meet_a_listener(run: Run, alice: Process, bob: Process) -> None:
    """Where somebody listens, the option lets nobody in, on whatever address."""
    port, other = run.port(8081), run.port(8082)
    with run.step(
        "Alice listens with SO_REUSEADDR on all addresses; Bob asks for one, with it too",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks not-listening",
        why="A listener is in the way of every address that it meets. BSD is different: there a "
        "specific address may stand beside the wildcard.",
    ):
        alice.listen(port, reuseaddr=True)
        bob.listen(port, address=alice.host.ipv4, reuseaddr=True)

    with run.step(
        "Alice listens on one address; Bob asks for all",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks not-listening",
        why="The other order, the same answer.",
    ):
        alice.listen(other, address=alice.host.ipv4, reuseaddr=True)
        bob.listen(other, reuseaddr=True)


def slip_in(run: Run, server: Host, alice: Process, bob: Process) -> None:
    """Between bind() and listen() the door is open, for everybody."""
    port, late = run.port(8083), run.port(8084)
    root = server.process("root", user="root")
    with run.step(
        "Root binds with SO_REUSEADDR; before it listens, Bob binds and listens",
        expect=OK,
        rule="both-reuseaddr" if run.kernel >= (6, 8) else "remembered-reuseaddr",
        why="No uid is compared, root's neither. From bind() to listen() anybody with the option "
        "can come and take all the clients.",
    ):
        roots = root.bind(port, SO_REUSEADDR)
        his = bob.bind(port, SO_REUSEADDR)
        his.listen()

    with run.step(
        "A client connects, and then root calls listen()",
        expect=EADDRINUSE.by("listen"),
        rule="taken: both-reuseaddr lacks not-listening",
        why="The client is Bob's. All that root gets is an error.",
    ):
        bob.connect((server.ipv4, port))
        his.accept()
        roots.listen()

    with run.step(
        "Alice binds without the option and sets it afterwards; Bob binds with it",
        expect=OK,
        rule="both-reuseaddr",
        why="What counts is what her socket has when Bob comes, not what it had at her bind().",
    ):
        hers = alice.bind(late)
        hers.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        bob.bind(late, SO_REUSEADDR)


def prevent(run: Run, alice: Process, bob: Process) -> list[Step]:
    """What keeps a stranger out between bind() and listen(); returns what old kernels do not."""
    plain, shared, cleared = run.port(8085), run.port(8086), run.port(8087)
    with run.step(
        "Alice binds without the option, Bob with it",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="It takes both. But then her own restart meets TIME_WAIT: see the lab timewait.",
    ):
        alice.bind(plain)
        bob.bind(plain, SO_REUSEADDR)

    with run.step(
        "Alice binds with SO_REUSEPORT alone, Bob with both options",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        see="euid",
        why="They have SO_REUSEPORT in common, and for that the owner is compared: Bob is another "
        "user. And it helps her past TIME_WAIT as well.",
    ):
        alice.bind(shared, SO_REUSEPORT)
        bob.bind(shared, SO_REUSEADDR, SO_REUSEPORT)

    with run.step(
        "Alice binds with SO_REUSEADDR and clears it at once; Bob binds with it",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="She has used the option where she needed it, at bind(). Whoever comes now finds a "
        "socket without it (since 6.8; before, the port's own note of it, tb->fastreuse, is asked "
        "first and not renewed). A gap stays, of two calls.",
    ) as clearing:
        if run.kernel < (6, 8):
            clearing.skip("this kernel goes by what was set at bind()", since="6.8")
        hers = alice.bind(cleared, SO_REUSEADDR)
        hers.setsockopt(SOL_SOCKET, SO_REUSEADDR, 0)
        bob.bind(cleared, SO_REUSEADDR)

    with run.step(
        "And Alice listens",
        expect=OK,
        rule="free",
        why="Nobody else is there.",
    ) as listening:
        listening.needs(clearing)
        hers.listen()
    return [clearing, listening]


def block_each_other(run: Run, alice: Process, bob: Process) -> None:
    """The option is read again at listen()."""
    port = run.port(8088)
    with run.step(
        "Both have bound with the option, Alice clears hers, and Bob calls listen()",
        expect=EADDRINUSE.by("listen"),
        rule="taken: both-reuseaddr lacks their-reuseaddr",
        why="listen() compares as bind() did, with what is set now: one of the two sockets has "
        "no option any more.",
    ):
        hers = alice.bind(port, SO_REUSEADDR)
        his = bob.bind(port, SO_REUSEADDR)
        hers.setsockopt(SOL_SOCKET, SO_REUSEADDR, 0)
        his.listen()

    with run.step(
        "Alice calls listen()",
        expect=FROM_RULES,
        rule="taken: both-reuseaddr lacks my-reuseaddr",
        why="The same holds for her. Two sockets are bound, and neither can listen until the "
        "other is closed.",
    ):
        hers.listen()

    with run.step(
        "How many listen?",
        expect=exactly(0, "listeners on the port"),
        why="The port is taken twice and served by nobody.",
    ) as step:
        hers.inode()
        step.measured(alice.host.count(port, "LISTEN"))
