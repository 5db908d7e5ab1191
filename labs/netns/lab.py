"""Network namespaces: each has its ports, and a socket stays in the one where it was made."""

from labs.engine.script import (
    EADDRINUSE,
    ECONNREFUSED,
    ENETUNREACH,
    OK,
    Finding,
    Host,
    Run,
    Step,
    as_shares,
    connect_unix,
    exactly,
    lab,
)

REQUESTS = 10
LOOPBACK = "127.0.0.1"


@lab(
    "netns",
    title="Each network namespace has its own ports, and a socket never leaves its own",
    claim="Processes of different users cannot listen on one port of a machine.",
)
def netns(run: Run) -> None:
    """One port on three hosts; then processes move, and their sockets do not."""
    hosts = [run.host(name) for name in ("one", "two", "three")]
    elsewhere = run.host("elsewhere")
    listen_everywhere(run, hosts, elsewhere)
    moving = [*leave_and_return(run, hosts[0], elsewhere), pass_inside(run, hosts[1], elsewhere)]
    run.conclude(
        Finding.CONDITIONAL,
        "they are in one network namespace. In three of them three users had the same port at "
        "once, and each was reached at its own address.",
        aside=moving,
    )


def listen_everywhere(run: Run, hosts: list[Host], elsewhere: Host) -> None:
    """The same port for three users, and who answers where."""
    port = run.port(8080)
    users = ("alice", "bob", "root")
    with run.step(
        "Alice, Bob and root listen on {port} of all addresses, each on a host of its own",
        expect=OK,
        rule="free",
        why="Ports are looked up with their network namespace (inet_bind_bucket_match()): what "
        "another one has is never found.",
        port=port,
    ):
        for host, user in zip(hosts, users, strict=True):
            listener = host.process(user, user=user).listen(port)
            listener.serve()

    client = elsewhere.process("client", user="bob")
    with run.step(
        "A client on a fourth host asks each of them {count} times, over a veth",
        expect=exactly(3 * REQUESTS, "answers of the one whose address it was"),
        why="Each host has addresses of its own, and a veth pair leads to each. The address "
        "decides in which namespace a packet arrives.",
        count=REQUESTS,
    ) as step:
        answers = {
            user: client.request((host.ipv4, port), REQUESTS).by.get(user, 0)
            for host, user in zip(hosts, users, strict=True)
        }
        step.measured(sum(answers.values()), as_shares(answers))

    with run.step(
        "On each host somebody asks 127.0.0.1",
        expect=exactly(3 * REQUESTS, "answers of the listener on the same host"),
        why="Each network namespace has a loopback device of its own. 127.0.0.1 is another place "
        "on each host.",
    ) as step:
        near = {
            user: host.process(f"near-{user}", user="bob")
            .request((LOOPBACK, port), REQUESTS)
            .by.get(user, 0)
            for host, user in zip(hosts, users, strict=True)
        }
        step.measured(sum(near.values()), as_shares(near))

    with run.step(
        "The client asks its own 127.0.0.1",
        expect=ECONNREFUSED.by("connect"),
        why="Nobody listens on the fourth host. That others do on the same machine is no help.",
    ):
        client.connect((LOOPBACK, port))


def leave_and_return(run: Run, host: Host, elsewhere: Host) -> list[Step]:
    """A process changes its network namespace; returns what not every backend can do."""
    port = run.port(8081)
    client = elsewhere.process("client-2", user="bob")
    with run.step(
        "A process listens, and moves to a new network namespace; a client asks on the old host",
        expect=exactly(1, "connection accepted"),
        why="A socket keeps the namespace in which socket() was called (sk_net). unshare() and "
        "setns() change that of the process, which counts for the next socket() only.",
    ) as leaving:
        wanderer = host.process("wanderer", user="alice", capabilities=["CAP_SYS_ADMIN"])
        listener = wanderer.listen(port)
        wanderer.unshare_network()
        client.connect((host.ipv4, port))
        leaving.measured(len(listener.accept_many(1)))

    with run.step(
        "From there it listens on the same port once more",
        expect=OK,
        rule="free",
        why="A new socket, a new namespace: the port is free there. One process has both now.",
    ) as again:
        again.needs(leaving)
        second = wanderer.listen(port)

    with run.step(
        "And it connects to the client's host",
        expect=ENETUNREACH.by("connect"),
        why="The new namespace has a loopback device that is down, and no other. What is made "
        "there reaches nobody.",
    ) as reaching:
        reaching.needs(leaving)
        wanderer.connect((elsewhere.ipv4, port))

    with run.step(
        "It comes back by setns(), and asks for the port again",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseaddr lacks my-reuseaddr, their-reuseaddr",
        why="This socket is made on the old host, where the first one still listens.",
    ) as returning:
        returning.needs(again)
        second.close()
        wanderer.return_to_network()
        wanderer.listen(port)
    return [leaving, again, reaching, returning]


def pass_inside(run: Run, host: Host, elsewhere: Host) -> Step:
    """A listener for a process that has no network; returns what not every backend can do."""
    port = run.port(8082)
    client = elsewhere.process("client-3", user="bob")
    bob = host.process("bob-2", user="bob")
    with run.step(
        "Bob passes a listener to a process without any network, which serves {count} clients",
        expect=exactly(REQUESTS, "answers of the process without a network"),
        see="passing",
        why="The listener is Bob's host's, wherever its descriptor is (SCM_RIGHTS of unix(7)). So "
        "a service can run with no network but the one socket that it was given.",
        count=REQUESTS,
    ) as step:
        listener = bob.listen(port)
        recluse = host.process("recluse", user="alice", capabilities=["CAP_SYS_ADMIN"])
        near, far = connect_unix(bob, recluse)
        recluse.unshare_network()
        near.send_fds(listener)
        far.recv_fds().serve()
        answers = client.request((host.ipv4, port), REQUESTS)
        step.measured(answers.by.get("recluse", 0))
    return step
