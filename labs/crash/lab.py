"""Availability: what goes on, and what is lost, when one of several servers dies or hangs."""

from labs.engine.script import (
    Finding,
    Host,
    Process,
    Run,
    Socket,
    Step,
    by_chance,
    exactly,
    lab,
)

MEMBERS = 4
CLIENTS = 16
MOST = 20_000
SOME = 100  # requests before and after


@lab(
    "crash",
    title="When one server of several dies, the others go on, but its queue may go with it",
    claim="If several processes listen on a port and one crashes, the others serve on.",
)
def crash(run: Run) -> None:
    """One of four hangs, then dies: in a group, in one that migrates, behind one listener."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    lose_a_member(run, server, elsewhere)
    lose_connections(run, server, elsewhere)
    migrate = migrate_from_a_member(run, elsewhere)
    lose_a_child(run, server, elsewhere)
    run.conclude(
        Finding.CONDITIONAL,
        "new connections are meant: every one that came afterwards was answered. In a reuseport "
        "group the {clients} that waited at the dead member were reset, and a member that hung "
        "had gathered them all; behind one inherited listener none was lost.",
        aside=[migrate],
        clients=CLIENTS,
    )


def lose_a_member(run: Run, server: Host, elsewhere: Host) -> None:
    """A reuseport group: each member has a queue of its own."""
    client = elsewhere.process("client", user="bob")
    port = run.port(8080)
    with run.step(
        "Four processes form a group, under load; one hangs and calls accept() no more",
        expect=exactly(CLIENTS, "clients that wait at the one that hangs"),
        why="The hash knows nothing of load or health: one in four connections goes there and "
        "waits. A client that waits asks no more, so in the end all of them do.",
    ) as step:
        group = start_group(server, "member", port)
        ask(client, server, port)
        step.measured(hang(run, group[0], server, port))

    with run.step(
        "It is killed by SIGKILL",
        expect=exactly(CLIENTS, "requests lost"),
        soon=True,
        why="The kernel closes its listener, and resets all that wait there "
        "(inet_csk_listen_stop()). Then the others answer whatever comes.",
    ) as step:
        group[0].process.kill()
        answers = client.stop_load(after=CLIENTS + SOME)
        step.measured(answers.lost, answers.parts)

    with run.step(
        "{count} more connections come",
        expect=exactly(SOME, "answered by the other three"),
        why="The dead one has left the group (reuseport_detach_sock()). Nothing new is lost.",
        count=SOME,
    ) as step:
        answers = client.request((server.ipv4, port), SOME)
        names = [member.process.name for member in group[1:]]
        shares = {name: answers.by.get(name, 0) for name in names}
        step.measured(answers.answered, by_chance(shares))


def lose_connections(run: Run, server: Host, elsewhere: Host) -> None:
    """What a process has accepted goes with it."""
    client = elsewhere.process("client-2", user="bob")
    with run.step(
        "A server accepts a connection and is killed before it answers",
        expect=exactly(0, "bytes until the end of the stream"),
        why="An accepted connection is the process's own. The kernel closes it and tells the "
        "client; nobody else has it. This much is lost in every design.",
    ) as step:
        holder = server.process("holder", user="alice")
        port = run.port(8081)
        listener = holder.listen(port)
        connected = client.connect((server.ipv4, port))
        listener.accept()
        holder.kill()
        step.measured(len(connected.recv(16)))


def migrate_from_a_member(run: Run, elsewhere: Host) -> Step:
    """The same group where the host migrates; returns the step, which an old kernel cannot do."""
    client = elsewhere.process("client-3", user="bob")
    with run.step(
        "The same group on a host with tcp_migrate_req: one hangs, all wait there, it is killed",
        expect=exactly(0, "requests lost of those that waited"),
        why="With net.ipv4.tcp_migrate_req=1 (since 5.14) what waits at a listener that is closed "
        "moves to another of its group (reuseport_migrate_sock() in inet_csk_listen_stop()).",
    ) as step:
        if run.kernel < (5, 14):
            step.skip("this kernel does not move what waits", since="5.14")
        server = run.host("migrating", tcp_migrate_req=True)
        port = run.port(8082)
        group = start_group(server, "mover", port)
        ask(client, server, port)
        hang(run, group[0], server, port)
        group[0].process.kill()
        answers = client.stop_load(after=CLIENTS + SOME)
        step.measured(answers.lost, answers.parts)
    return step


def lose_a_child(run: Run, server: Host, elsewhere: Host) -> None:
    """One inherited listener: one queue for all."""
    client = elsewhere.process("client-4", user="bob")
    port = run.port(8083)
    with run.step(
        "Four children share an inherited listener; one hangs and is killed",
        expect=exactly(0, "requests lost"),
        why="There is one queue, and the others take from it: nothing waits for the one that "
        "hangs, and nothing dies with it but what it had accepted, here nothing.",
    ) as step:
        parent = server.process("parent", user="alice")
        listener = parent.listen(port)
        copies = parent.fork_holders(listener, "child", MEMBERS)
        for copy in copies:
            copy.serve()
        ask(client, server, port)
        victim, *others = (copy.process for copy in copies)
        victim.stop_serving()
        client.wait_for_requests(SOME)
        victim.kill()
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)

    with run.step(
        "All are killed but the parent, and a client connects",
        expect=exactly(1, "connection waiting for the next server"),
        why="The parent has the listener still, with its queue. Whoever it forks next finds the "
        "connection there: so a supervisor restarts what has crashed.",
    ) as step:
        for child in others:
            child.kill()
        client.connect((server.ipv4, port))
        step.measured(sum(run.wait_for_queues(server, port, 1).values()))


def start_group(host: Host, name: str, port: int) -> list[Socket]:
    """Processes that form a reuseport group and answer."""
    processes = [host.process(f"{name}-{number}", user="alice") for number in range(1, MEMBERS + 1)]
    group = [process.listen(port, reuseport=True) for process in processes]
    for listener in group:
        listener.serve()
    return group


def ask(client: Process, server: Host, port: int) -> None:
    """Put the servers under load, and wait until they answer."""
    client.load((server.ipv4, port), MOST, clients=CLIENTS)
    client.wait_for_requests(SOME)


def hang(run: Run, member: Socket, server: Host, port: int) -> int:
    """Let a member call accept() no more until all clients wait there; how many do."""
    member.process.stop_serving()
    waiting: list[int] = []

    def all_wait() -> bool:
        waiting[:] = filter(None, server.queues(port).values())
        return waiting == [CLIENTS]

    run.wait_until(all_wait, "all clients in the queue of the one that hangs")
    return sum(waiting)
