"""Containers and ports: what they share, what root is in them, and who refuses a published port."""

from labs.engine.script import EACCES, EADDRINUSE, OK, Run, lab, publication


@lab(
    "containers",
    title="Containers share a port when they share a network namespace and a user",
)
def containers(run: Run) -> None:
    """Two pods, another map of uids, a low port, and ports of the machine's."""
    share_in_a_pod(run)
    ask_for_a_low_port(run)
    publish(run)


def share_in_a_pod(run: Run) -> None:
    """Containers of one network namespace, as a pod has it, ask for one port."""
    port = run.port(8080)
    pod = run.host("pod")
    alice = pod.process("alice", user="alice")
    with run.step(
        "Alice's container listens on {port} with SO_REUSEPORT",
        expect=OK,
        rule="free",
        why="A pod is a network namespace that several containers join: its addresses and ports "
        "are theirs together. This one is free.",
        port=port,
    ):
        alice.listen(port, reuseport=True)

    second = pod.process("alice-2", user="alice")
    with run.step(
        "A second container of Alice's in the pod joins",
        expect=OK,
        rule="remembered-reuseport",
        why="To the kernel containers are processes. Both sockets are in one network namespace, "
        "have one owner and the option, and nothing else is asked (inet_csk_bind_conflict()).",
    ):
        second.listen(port, reuseport=True)

    with run.step(
        "The second container asks again, without SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks my-reuseport",
        see="reuseport",
        why="Every socket on the port needs the option. Most programs do not set it: in one pod "
        "their ports have to differ, in two pods they need not.",
    ):
        second.listen(port)

    bob = pod.process("bob", user="bob")
    with run.step(
        "Bob's container in the pod asks, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="euid",
        why="Another user: two images of one pod that run under different uids do not share, "
        "whatever options they set.",
    ):
        bob.listen(port, reuseport=True)

    with run.step(
        "The same uid under another user-namespace map asks, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        see="userns",
        why="Inside it has Alice's number, but its map makes another user of it. The kernel "
        "compares what the numbers stand for (kuid_t, uid_eq()), not what containers see: maps "
        "of their own part them, whatever uid their images name.",
    ):
        remapped = pod.process("alice-remapped", user="alice", outer="alice-remapped")
        remapped.listen(port, reuseport=True)

    other_bob = run.host("pod-2").process("bob-2", user="bob")
    with run.step(
        "In another pod, Bob gets the port at once",
        expect=OK,
        rule="free",
        see="netns",
        why="Another network namespace: a port is looked up with its namespace "
        "(inet_bind_bucket_match()), and Alice's sockets are not found there.",
    ):
        other_bob.listen(port)


def ask_for_a_low_port(run: Run) -> None:
    """A port below 1024: with and without the capability, and where there are no such ports."""
    port = run.port(80)
    server = run.host("server")
    alice = server.process("alice-3", user="alice")
    with run.step(
        "Alice's container asks for port {port}, without a capability",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        see="device",
        why="Below ip_unprivileged_port_start, here 1024, bind() takes CAP_NET_BIND_SERVICE. That "
        "is asked before it is looked whether the port is free (__inet_bind(), "
        "inet_port_requires_bind_service()).",
        port=port,
    ):
        alice.listen(port)

    root = server.process("root", user="root")
    with run.step(
        "A container's root asks for it, without a capability",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        see="device",
        why="Root is a number. The kernel asks for the capability, which an engine can take from "
        "root (--cap-drop), in the user namespace that the network namespace belongs to.",
    ):
        root.listen(port)

    able = server.process("alice-4", user="alice", capabilities=["CAP_NET_BIND_SERVICE"])
    with run.step(
        "Alice's container asks for it, with CAP_NET_BIND_SERVICE",
        expect=OK,
        rule="free",
        see="device",
        why="One capability is enough, and no root is needed (ns_capable()).",
    ):
        able.listen(port)

    free = run.host("open", unprivileged_port_start=0).process("alice-5", user="alice")
    with run.step(
        "On a host with ip_unprivileged_port_start=0, Alice asks without a capability",
        expect=OK,
        rule="free",
        see="device",
        why="The limit belongs to a network namespace, and 0 means that no port is low. Docker "
        "sets it so for containers since 20.10; bindlab sets 1024 on its other hosts, so that "
        "the rule can be seen.",
    ):
        free.listen(port)


def publish(run: Run) -> None:
    """Ports of hosts at the machine's own address, which has each of them once."""
    port = run.port(8080)
    with run.step(
        "A host's port is published at the machine's 127.0.0.1",
        expect=OK,
        why="The machine's network namespace is another one, with ports of its own. There the "
        "engine opens one and passes on to the host's what comes.",
    ) as published:
        web = run.host("web", publish=publication(port))

    with run.step(
        "A second host is to be published at the same port of the machine",
        expect=EADDRINUSE.by("allocate"),
        why="The engine keeps a book of the ports that it has given away, and this one is in it. "
        "The kernel has not been asked.",
    ) as step:
        step.needs(published)
        run.host("web-2", publish=publication(port, machine_port=web.machine_port))

    with run.step(
        "A third one is to be published where a program of the machine listens",
        expect=EADDRINUSE.by("bind"),
        why="The book knows nothing of other programs. So the engine tries to bind the port for "
        "its proxy, and the kernel refuses, as it would refuse anybody.",
    ):
        run.host("web-3", publish=publication(port, held=True))
