"""Devices, addresses that are not there, and low ports: what else bind() looks at."""

from socket import IPPROTO_IP, SO_BINDTODEVICE, SOCK_DGRAM, SOL_SOCKET

from labs.engine.script import (
    ANY,
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    ENODEV,
    EPERM,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Socket,
    exactly,
    lab,
)

IP_FREEBIND = 15
LOOPBACK, NETWORK = "lo", "eth0"  # the interfaces of every host
ABSENT = "192.0.2.1"  # TEST-NET-1 of RFC 5737: nobody's
REQUESTS = 10


@lab(
    "device",
    title="A device parts listeners, absent addresses can be bound, low ports are a setting",
    claim="Only root may listen on a port below 1024.",
)
def device(run: Run) -> None:
    """Two listeners on two devices; an address of nobody's; ports that take a capability."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    part_by_device(run, alice, bob, elsewhere)
    change_device(run, alice, bob)
    bind_what_is_absent(run, alice, bob)
    ask_for_low_ports(run, server)
    move_the_limit(run)
    run.conclude(
        Finding.CONDITIONAL,
        "root has CAP_NET_BIND_SERVICE, nobody else has, and the network namespace has its limit "
        "at 1024. A root without the capability was refused, an ordinary user with it was not, "
        "and where the limit was lower nobody needed it.",
    )


def part_by_device(run: Run, alice: Process, bob: Process, elsewhere: Host) -> None:
    """Two users, one port, all addresses: each on a device of its own."""
    port = run.port(8080)
    with run.step(
        "Alice binds her listener to the device lo, Bob his to eth0, on one port of all addresses",
        expect=OK,
        rule="other-device",
        why="Sockets that are bound to different devices never meet "
        "(inet_csk_bind_conflict(), sk_bound_dev_if). To bind a socket to a device takes no "
        "capability since 5.7.",
    ):
        for process, name in ((alice, LOOPBACK), (bob, NETWORK)):
            listener = on_device(process, name)
            listener.bind((ANY, port))
            listener.listen()
            listener.serve()

    with run.step(
        "A third process asks for the port without a device",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="A socket without a device is for all of them, and so it meets both.",
    ):
        alice.host.process("carol", user="carol").listen(port)

    local = alice.host.process("local", user="bob")
    remote = elsewhere.process("remote", user="bob")
    with run.step(
        "{count} connections come to 127.0.0.1, and {count} from another host",
        expect=exactly(2 * REQUESTS, "connections at the listener of their device"),
        why="The kernel looks for the listener with the device on which the packet came "
        "(inet_lookup_listener(), inet_sk_bound_dev_eq()).",
        count=REQUESTS,
    ) as step:
        near = local.request(("127.0.0.1", port), REQUESTS).by
        far = remote.request((alice.host.ipv4, port), REQUESTS).by
        step.measured(near.get("alice", 0) + far.get("bob", 0))

    with run.step(
        "A local client connects to the address of eth0",
        expect=exactly(REQUESTS, "connections at the listener of eth0"),
        why="The packets go over lo, as all that a host sends to itself. But the kernel goes by "
        "the device that has the address (orig_oif in ip_route_output_key_hash_rcu(), inet_iif()).",
    ) as step:
        step.measured(local.request((alice.host.ipv4, port), REQUESTS).by.get("bob", 0))


def change_device(run: Run, alice: Process, bob: Process) -> None:
    """What a socket's device can be."""
    with run.step(
        "Bob moves a socket from eth0 to lo",
        expect=EPERM.by("setsockopt"),
        why="Once a socket has a device, another takes CAP_NET_RAW (sock_bindtoindex_locked()). "
        "Who was confined to a network stays there.",
    ):
        socket = on_device(bob, NETWORK)
        socket.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, LOOPBACK)

    with run.step(
        "Alice names a device that is not there",
        expect=ENODEV.by("setsockopt"),
        why="The name is looked up at once, in the socket's own network namespace.",
    ):
        on_device(alice, "wlan7")


def bind_what_is_absent(run: Run, alice: Process, bob: Process) -> None:
    """IP_FREEBIND: an address that is not there yet."""
    port = run.port(8081)
    with run.step(
        "Alice asks for an address that no interface of her host has",
        expect=EADDRNOTAVAIL.by("bind"),
        rule="address-not-here",
        why="bind() takes local addresses only (inet_addr_valid_or_nonlocal()).",
    ):
        alice.listen(port, address=ABSENT)

    with run.step(
        "She asks with IP_FREEBIND",
        expect=OK,
        rule="free",
        why="Then the address may come later. So a server can start before its network is up, or "
        "wait beside another for an address that moves between them.",
    ):
        listen_freely(alice, port)

    with run.step(
        "Bob asks for it with IP_FREEBIND",
        expect=EADDRINUSE.by("bind"),
        rule="taken",
        why="An address that is not there can be taken all the same.",
    ):
        listen_freely(bob, port)


def ask_for_low_ports(run: Run, server: Host) -> None:
    """Ports below ip_unprivileged_port_start."""
    port, other = run.port(80), run.port(443)
    user = server.process("user", user="alice")
    root = server.process("root", user="root")
    trusted = server.process("trusted", user="alice", capabilities=["CAP_NET_BIND_SERVICE"])
    with run.step(
        "An ordinary user asks for port {port}",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        why="Below ip_unprivileged_port_start, 1024 here, bind() takes CAP_NET_BIND_SERVICE "
        "(__inet_bind(), inet_port_requires_bind_service()).",
        port=port,
    ):
        user.listen(port)

    with run.step(
        "Root asks for it, without a capability",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        why="The uid is not asked. Root mostly has all capabilities; this one has none.",
    ):
        root.listen(port)

    with run.step(
        "An ordinary user with CAP_NET_BIND_SERVICE listens there",
        expect=OK,
        rule="free",
        why="One capability, and no root.",
    ):
        trusted.listen(port)

    with run.step(
        "The user without asks for the port that is taken now",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        why="The capability is asked first. Who may not have the port is not told whether it is "
        "free.",
    ):
        user.listen(port)

    with run.step(
        "The user without binds a UDP socket to port {port}",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        why="The limit is for TCP and UDP alike.",
        port=other,
    ):
        user.socket(kind=SOCK_DGRAM).bind((ANY, other))


def move_the_limit(run: Run) -> None:
    """The limit is a setting of each network namespace."""
    limit = 443
    with run.step(
        "On a host where ip_unprivileged_port_start is {limit}, a user listens on {limit}",
        expect=OK,
        rule="free",
        why="The limit belongs to the network namespace (since 4.11), and from it on ports are "
        "for all.",
        limit=limit,
    ):
        user = run.host("lower", unprivileged_port_start=limit).process("user-2", user="alice")
        user.listen(limit)

    with run.step(
        "The same user asks for the port before it",
        expect=EACCES.by("bind"),
        rule="privileged-port",
        why="One below is low.",
    ):
        user.listen(limit - 1)


def on_device(process: Process, name: str) -> Socket:
    """A new socket of a process, bound to a device."""
    new = process.socket()
    new.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, name)
    return new


def listen_freely(process: Process, port: int) -> None:
    """Listen on the address that is not there."""
    new = process.socket()
    new.setsockopt(IPPROTO_IP, IP_FREEBIND, 1)
    new.bind((ABSENT, port))
    new.listen()
