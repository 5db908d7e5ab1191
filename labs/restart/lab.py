"""Restart without downtime: which ways lose requests, how many, and why."""

from labs.engine.script import (
    EADDRINUSE,
    CallError,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    Step,
    between,
    exactly,
    hand_over,
    lab,
)

CLIENTS = 16
MOST = 20_000
SOME = 100  # requests before a restart, after it, and in the gap
REQUESTS_LOST = "requests lost"
PYTHON = "/usr/bin/python3"

# The next version of a server: it gets its listener, as a descriptor, and its name.
NEXT_VERSION = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(True)
while True:
    connection, _ = listener.accept()
    try:
        connection.send(sys.argv[2].encode())
    except OSError:
        pass
    connection.close()
"""


@lab(
    "restart",
    title="Whether a restart loses requests depends on what happens to the listener's queue",
    claim="With SO_REUSEADDR a server restarts seamlessly: the new one takes over at once.",
)
def restart(run: Run) -> None:
    """A server is replaced under load, in seven ways."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    stop_then_start(run, server, elsewhere)
    overlap(run, server, elsewhere)
    migrate = overlap_and_migrate(run, elsewhere)
    inherit(run, server, elsewhere)
    become = execute(run, server, elsewhere)
    pass_over(run, server, elsewhere)
    run.conclude(
        Finding.REFUTED,
        "a stop and a start lost every request of the gap between them, with SO_REUSEADDR too. "
        "Two listeners by SO_REUSEPORT lost what waited in the queue of the one that closed. None "
        "was lost where the listener itself lived on, inherited or passed.",
        aside=[migrate, become],
    )


def stop_then_start(run: Run, server: Host, elsewhere: Host) -> None:
    """The old one ends, then the new one begins."""
    port = run.port(8080)
    client = elsewhere.process("client", user="bob")
    with run.step(
        "Under load the server ends; one without SO_REUSEADDR takes its place",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr",
        see="timewait",
        why="The server closed its connections first, so TIME_WAIT is on its side, with its port.",
    ):
        old = start(server, "old", port, reuseaddr=True)
        ask(client, old)
        end(old)
        server.process("plain", user="alice").listen(port)

    with run.step(
        "One with SO_REUSEADDR comes, as the old one had it",
        expect=between(SOME, MOST, REQUESTS_LOST),
        soon=True,
        why="It may bind beside TIME_WAIT. But between close() and listen() nobody listens, and "
        "whoever comes then is refused by a RST; the longer the gap, the more.",
    ) as step:
        client.wait_for_requests(SOME)
        new = start(server, "new", port, reuseaddr=True)
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        end(new)


def overlap(run: Run, server: Host, elsewhere: Host) -> None:
    """Both listen for a while, with SO_REUSEPORT."""
    client = elsewhere.process("client-2", user="bob")
    port = run.port(8082)
    with run.step(
        "With SO_REUSEPORT the new one joins; the old one stops to accept, and closes",
        expect=between(1, CLIENTS, REQUESTS_LOST),
        why="There is no gap. But what waits in the old one's queue is connected already, and "
        "close() resets it (inet_csk_listen_stop()).",
    ) as step:
        old = start(server, "old-2", port, reuseport=True)
        ask(client, old)
        new = start(server, "new-2", port, reuseport=True)
        old.process.stop_serving()
        wait_for_queue(run, server, port)
        old.close()
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)

    with run.step(
        "A third one joins; the second answers what waits, and closes at once",
        expect=between(0, CLIENTS, REQUESTS_LOST),
        why="To drain first is better. Between the last accept() and the close() one more may "
        "come, for the kernel goes on choosing this listener: a race, and no promise.",
    ) as step:
        ask(client, new)
        third = start(server, "third", port, reuseport=True)
        new.process.stop_serving()
        new.drain_and_close()
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        end(third)


def overlap_and_migrate(run: Run, elsewhere: Host) -> Step:
    """What waits is moved; returns the step that an older kernel cannot do."""
    client = elsewhere.process("client-3", user="bob")
    with run.step(
        "The same on a host with tcp_migrate_req; the old one closes while connections wait",
        expect=exactly(0, REQUESTS_LOST),
        why="With this sysctl (since 5.14) what waits moves to another of the group "
        "(reuseport_migrate_sock()), and so does a handshake that is not complete.",
    ) as step:
        if run.kernel < (5, 14):
            step.skip("this kernel does not move what waits", since="5.14")
        server = run.host("migrating", tcp_migrate_req=True)
        port = run.port(8083)
        old = start(server, "old-3", port, reuseport=True)
        ask(client, old)
        new = start(server, "new-3", port, reuseport=True)
        old.process.stop_serving()
        wait_for_queue(run, server, port)
        old.close()
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        end(new)
    return step


def inherit(run: Run, server: Host, elsewhere: Host) -> None:
    """The listener outlives both: a parent has it."""
    client = elsewhere.process("client-4", user="bob")
    port = run.port(8084)
    parent = server.process("parent", user="alice")
    with run.step(
        "A parent has the listener; it forks a new child, and the old child ends",
        expect=exactly(0, REQUESTS_LOST),
        why="Nothing is bound, nothing is closed: there is one listener with one queue, and "
        "whoever accepts next takes what waits.",
    ) as step:
        listener = parent.listen(port, reuseaddr=True)
        old = parent.fork("old-4").inherited(listener)
        old.serve()
        ask(client, old)
        new = parent.fork("new-4").inherited(listener)
        new.serve()
        end(old)
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        new.process.kill()


def execute(run: Run, server: Host, elsewhere: Host) -> Step:
    """The server becomes its next version; returns the step, which takes a program."""
    client = elsewhere.process("client-6", user="bob")
    port = run.port(8086)
    with run.step(
        "The server executes its next version, which gets the listener as a descriptor",
        expect=exactly(0, REQUESTS_LOST),
        see="passing",
        why="execve() keeps what is not marked FD_CLOEXEC: the same process, the same listener, "
        "another program. Until it calls accept(), connections wait. So nginx upgrades itself.",
    ) as step:
        old = start(server, "version-1", port)
        ask(client, old)
        old.process.stop_serving()
        old.set_inheritable(True)
        try:
            arguments = "-I", "-S", "-c", NEXT_VERSION, str(old.descriptor), "version-2"
            old.process.exec(PYTHON, *arguments)
        except CallError:
            step.skip("there is no /usr/bin/python3 that the server could execute")
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        old.process.kill()
    return step


def pass_over(run: Run, server: Host, elsewhere: Host) -> None:
    """The listener is passed to a stranger."""
    client = elsewhere.process("client-5", user="bob")
    port = run.port(8085)
    with run.step(
        "The old one passes its listener over a UNIX socket to a new one, and ends",
        expect=exactly(0, REQUESTS_LOST),
        see="passing",
        why="SCM_RIGHTS of unix(7): the new process gets a descriptor of the same socket. It need "
        "not be a child, nor of the same user. So HAProxy and others reload.",
    ) as step:
        old = start(server, "old-5", port)
        ask(client, old)
        passed = hand_over(old, server.process("new-5", user="alice"))
        passed.serve()
        end(old)
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)


def start(
    host: Host, name: str, port: int, *, reuseaddr: bool = False, reuseport: bool = False
) -> Socket:
    """A server: a process that listens and answers."""
    process = host.process(name, user="alice")
    listener = process.listen(port, reuseaddr=reuseaddr, reuseport=reuseport)
    listener.serve()
    return listener


def ask(client: Process, listener: Socket) -> None:
    """Put the server under load, and wait until it answers."""
    client.load((listener.process.host.ipv4, listener.getsockname()[1]), MOST, clients=CLIENTS)
    client.wait_for_requests(SOME)


def end(listener: Socket) -> None:
    """The server finishes what it is at, and ends."""
    listener.process.stop_serving()
    listener.process.exit()


def wait_for_queue(run: Run, host: Host, port: int) -> None:
    """Wait until a connection waits at a listener that nobody serves."""
    run.wait_until(lambda: any(host.queues(port).values()), "a connection in a queue")
