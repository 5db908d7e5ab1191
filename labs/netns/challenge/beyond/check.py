"""The check of beyond: one program has the same port in two network namespaces."""

from errno import ECONNREFUSED, ENETUNREACH

from labs.engine.challenge import (
    OK,
    CallError,
    Host,
    Process,
    Program,
    Trial,
    challenge,
    exactly,
)

LOOPBACK = "127.0.0.1"
REQUESTS = 10
NEEDED = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN")
VISITOR_NEEDS = ("CAP_SYS_ADMIN", "CAP_SYS_PTRACE")


@challenge(
    "beyond",
    title="Listen on one port twice: here, and in a network of its own",
    hints=(
        (
            "The lab has a process that listens, moves to another namespace, and listens on the "
            "same port once more. When was each of its sockets made?"
        ),
        (
            "A socket belongs to the network namespace in which socket() was called, for good. "
            "bind() asks there, wherever the process is by then."
        ),
        (
            "Listen on PORT; call unshare(CLONE_NEWNET) of the C library (ctypes, or os.unshare() "
            "from Python 3.12 on); bring lo up there by SIOCSIFFLAGS; only then make the second "
            "socket. One loop can serve both."
        ),
    ),
    advice={
        "none": "Nothing listens on port {port} of the host.",
        "early": "Both of your sockets are the host's: so they were made before unshare(). It "
        "moves the process and no socket that it has already.",
        "gone": "Your program is in a network of its own, and nothing listens on port {port} of "
        "the host: its sockets were all made after unshare().",
        "home": "All of your program is in the host's network. It takes unshare(CLONE_NEWNET), and "
        "a thread or a process that stays there.",
        "down": "In your program's network 127.0.0.1 cannot be reached: a new network namespace "
        "has a loopback device that is down.",
        "deaf": "In your program's network nobody listens on port {port} of 127.0.0.1.",
        "silent": "Not every client got the right answer: 'outside' in the host's network, "
        "'inside' in the program's own.",
    },
)
def beyond(trial: Trial) -> None:
    """The program listens here; a visitor follows it to where it listens as well."""
    port = trial.port(8080)
    server = trial.host("server")
    program = start(trial, server, port)
    visit(trial, program, port)
    stay(trial, server, port)


def start(trial: Trial, server: Host, port: int) -> Program:
    """Start the program: a listener here, and a network of its own."""
    with trial.step(
        "Your program starts, and listens on port {port} of the host",
        expect=exactly(1, "listeners on the host"),
        why="A socket stays in the network namespace in which it was made (sk_net), wherever its "
        "process goes.",
        port=port,
    ) as step:
        program = trial.start("beyond", server, port, user="alice", capabilities=NEEDED)
        trial.settle(lambda: bool(server.queues(port) and trial.find_elsewhere(program)))
        trial.settle(lambda: trial.are_asleep(server, trial.family(program)), seconds=2)
        count = len(server.queues(port))
        step.advise("none", port=port)
        step.advise("gone", when=bool(trial.find_elsewhere(program)), port=port)
        step.advise("early", when=count > 1 or "Address already in use" in program.output)
        step.measured(count)

    with trial.step(
        "It has a network of its own",
        expect=exactly(1, "other network namespaces"),
        why="unshare() makes a new one, with ports that nobody has (copy_net_ns()).",
    ) as step:
        server.show()
        step.advise("home")
        step.measured(len({*trial.find_elsewhere(program).values()}))
    return program


def visit(trial: Trial, program: Program, port: int) -> None:
    """A process goes into the program's network and asks there."""
    visitor = program.host.process("visitor", user="root", capabilities=VISITOR_NEEDS)
    with trial.step(
        "A visitor goes into that network, and connects to 127.0.0.1",
        expect=OK,
        why="bind() has looked for the port in the second socket's namespace only "
        "(inet_bind_bucket_match()), and there it was free.",
    ) as step:
        visitor.enter_network(min(trial.find_elsewhere(program), default=program.pid))
        trial.settle(lambda: trial.reaches(visitor, (LOOPBACK, port)), seconds=3)
        try:
            visitor.connect((LOOPBACK, port)).close()
        except CallError as error:
            step.advise("down", when=error.errno == ENETUNREACH)
            step.advise("deaf", when=error.errno == ECONNREFUSED, port=port)
            raise

    with trial.step(
        "It asks {count} times",
        expect=exactly(REQUESTS, "times 'inside'"),
        why="127.0.0.1 is another place in each network namespace.",
        count=REQUESTS,
    ) as step:
        step.advise("silent")
        step.measured(count_answers(trial, visitor, (LOOPBACK, port), "inside"))


def stay(trial: Trial, server: Host, port: int) -> None:
    """Clients of the host still come to the first listener."""
    near = server.process("near", user="bob")
    far = trial.host("elsewhere").process("far", user="bob")
    with trial.step(
        "{count} clients come to {address} from another host, and as many to 127.0.0.1 from here",
        expect=exactly(2 * REQUESTS, "times 'outside'"),
        why="The first listener is where it was, though its process is not: a descriptor has no "
        "network.",
        count=REQUESTS,
        address=server.ipv4,
    ) as step:
        step.advise("silent")
        step.measured(
            count_answers(trial, far, (server.ipv4, port), "outside")
            + count_answers(trial, near, (LOOPBACK, port), "outside")
        )


def count_answers(trial: Trial, client: Process, address: tuple[str, int], answer: str) -> int:
    """How often a client gets this answer."""
    return trial.ask(client, address, REQUESTS).by.get(answer, 0)
