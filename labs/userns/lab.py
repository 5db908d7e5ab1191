"""User namespaces: whether two uids are one user is asked of what the numbers stand for."""

from collections.abc import Iterator
from socket import AF_INET, AF_NETLINK, IPPROTO_TCP, SOCK_RAW, htons
from typing import Literal

from labs.engine.script import (
    EADDRINUSE,
    EINVAL,
    OK,
    Finding,
    Host,
    Process,
    Run,
    Step,
    exactly,
    lab,
)

OVERFLOW_UID = 65_534  # kernel.overflowuid: who has no number in a user namespace

# sock_diag(7): a struct inet_diag_req_v2 after a struct nlmsghdr, and where the answer has the uid.
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST_AND_DUMP = 0x301
REQUEST_SIZE = 72
LISTENERS = 1 << 10  # TCP_LISTEN
UID_OFFSET = 80
BYTE_ORDER: Literal["little", "big"] = "big" if htons(1) == 1 else "little"


@lab(
    "userns",
    title="Users are compared as the kernel knows them, not by the numbers inside",
    claim="Whoever has the same uid may share the port by SO_REUSEPORT.",
)
def userns(run: Run) -> None:
    """Processes in user namespaces of their own ask for ports that others have."""
    server = run.host("server")
    port = run.port(8080)
    joined = ask_for_alices(run, server, port)
    compare_maps(run, server, run.port(9090))
    look_from_outside_and_inside(run, server, port, joined)
    try_to_leave(run, server, port)
    run.conclude(
        Finding.CONDITIONAL,
        "the uids stand for one kuid, the user as the run's own user namespace sees it. The same "
        "number from two maps is two users and is refused; three different numbers that stand for "
        "Alice share her port.",
    )


def ask_for_alices(run: Run, server: Host, port: int) -> Step:
    """Who may join Alice; returns the step by which three listeners are there."""
    alice = server.process("alice", user="alice")
    with run.step(
        "Alice listens on {port} with SO_REUSEPORT",
        expect=OK,
        rule="free",
        why="The port is free. Her socket gets its owner from her process, as a kuid: the kernel's "
        "own name for a user, the same in every user namespace (sock_alloc()).",
        port=port,
    ):
        alice.listen(port, reuseport=True)

    with run.step(
        "Alice's uid asks, in a user namespace where it stands for Carol",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="Inside, the number is Alice's. The kernel has turned it into Carol's kuid when the "
        "process took it (make_kuid()), and compares kuids (inet_csk_bind_conflict(), uid_eq()).",
    ):
        server.process("carol-as-alice", user="alice", outer="carol").listen(port, reuseport=True)

    with run.step(
        "Bob's uid asks, in a user namespace where it stands for Alice",
        expect=OK,
        rule="remembered-reuseport",
        why="Another number, the same kuid: this process is Alice, whatever it calls itself.",
    ):
        server.process("alice-as-bob", user="bob", outer="alice").listen(port, reuseport=True)

    with run.step(
        "Uid 0 asks, in a user namespace where it stands for Alice",
        expect=OK,
        rule="remembered-reuseport",
        why="Root inside is Alice as well. A rootless container is made so: its root is the user "
        "who started it, and shares with that user's programs.",
    ) as joined:
        server.process("alice-as-root", user="root", outer="alice").listen(port, reuseport=True)

    with run.step(
        "Uid 0 asks, in a user namespace where it stands for Carol",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="To be root inside opens nothing: here it is Carol, and no capability is asked for.",
    ):
        server.process("carol-as-root", user="root", outer="carol").listen(port, reuseport=True)

    with run.step(
        "Bob himself asks, without a user namespace of his own",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="The same number was let in before, where a map made Alice of it. Here it is Bob's.",
    ):
        server.process("bob", user="bob").listen(port, reuseport=True)
    return joined


def compare_maps(run: Run, server: Host, port: int) -> None:
    """Two user namespaces beside each other, neither of them the run's."""
    with run.step(
        "On {port}: Alice's uid that stands for Carol listens, and one that stands for Dave asks",
        expect=EADDRINUSE.by("bind"),
        rule="taken: both-reuseport lacks same-owner",
        why="Both are Alice to themselves, and neither is. Two maps, two kuids: two containers of "
        "one image do not share when each has a range of its own.",
        port=port,
    ) as first:
        carol = server.process("carol-as-alice-2", user="alice", outer="carol")
        dave = server.process("dave-as-alice", user="alice", outer="dave")
        carol.listen(port, reuseport=True)
        dave.listen(port, reuseport=True)

    with run.step(
        "Bob's uid asks, in a third user namespace, where it stands for Carol",
        expect=OK,
        rule="remembered-reuseport",
        why="That the user namespaces differ is not asked, only whom the uids stand for.",
    ) as step:
        step.needs(first)
        server.process("carol-as-bob", user="bob", outer="carol").listen(port, reuseport=True)


def look_from_outside_and_inside(run: Run, server: Host, port: int, joined: Step) -> None:
    """The same three listeners, as sock_diag(7) names their owners to different askers."""
    with run.step(
        "Alice asks sock_diag, as ss does, who has the port",
        expect=exactly(3, "listeners of Alice's"),
        why="All three are hers. That one called itself Bob and one root is written nowhere: a "
        "socket keeps the kuid and no number.",
    ) as step:
        step.needs(joined)
        alice = server.process("alice-2", user="alice")
        step.measured(find_owners(alice, port).count(alice.uid("alice")))

    with run.step(
        "The same is asked where Bob's uid stands for Alice",
        expect=exactly(3, "listeners of Bob's"),
        why="The answer is written in the numbers of whoever asks (from_kuid_munged()): here "
        "Alice is called Bob. The owner that ss names inside is somebody else outside.",
    ) as step:
        step.needs(joined)
        inside = server.process("alice-as-bob-2", user="bob", outer="alice")
        step.measured(find_owners(inside, port).count(inside.uid("bob")))

    with run.step(
        "The same is asked where Alice's uid stands for Carol",
        expect=exactly(3, "listeners of nobody's, 65534"),
        why="This map has no number for Alice, and the overflow uid stands for all that it does "
        "not have. An owner 65534 means: someone whom this namespace cannot name.",
    ) as step:
        step.needs(joined)
        inside = server.process("carol-as-alice-3", user="alice", outer="carol")
        step.measured(find_owners(inside, port).count(OVERFLOW_UID))


def try_to_leave(run: Run, server: Host, port: int) -> None:
    """A map has no number for anybody else, so nobody else can be had."""
    with run.step(
        "Uid 0 that stands for Carol has CAP_SETUID, and tries to become Alice",
        expect=EINVAL.by("seteuid"),
        why="Its map has no such uid: the number leads to no kuid (make_kuid()). The capability, "
        "which would allow it, is of the user namespace inside only.",
    ) as changing:
        names = ["CAP_SETUID", "CAP_CHOWN"]
        root = server.process("carol-as-root-2", user="root", outer="carol", capabilities=names)
        root.seteuid("alice")

    with run.step(
        "With CAP_CHOWN it makes a socket and tries to give it to Alice",
        expect=EINVAL.by("fchown"),
        why="The same for the owner of a socket (chown_common()). From inside, the only owner that "
        "can be named is Carol.",
    ) as step:
        step.needs(changing)
        root.socket().fchown("alice")

    with run.step(
        "A process that stands for Alice forks, and its child asks for the port",
        expect=OK,
        rule="remembered-reuseport",
        why="A child is in its parent's user namespace and has its kuid (copy_creds()).",
    ):
        parent = server.process("alice-as-bob-3", user="bob", outer="alice")
        parent.fork("child").listen(port, reuseport=True)


def find_owners(process: Process, port: int) -> list[int]:
    """The owners of the IPv4 listeners on a port, as sock_diag(7) tells this process."""
    netlink = process.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)
    netlink.send(make_request(port).decode("latin-1"))
    answer = netlink.recv(1 << 15).encode("latin-1")
    netlink.close()
    return list(read_owners(answer))


def make_request(port: int) -> bytes:
    """A request for the IPv4 TCP listeners on this port."""
    header = native(REQUEST_SIZE) + native(SOCK_DIAG_BY_FAMILY, 2) + native(REQUEST_AND_DUMP, 2)
    family = bytes([AF_INET, IPPROTO_TCP, 0, 0])
    asked = family + native(LISTENERS) + port.to_bytes(2, "big")
    return (header + bytes(8) + asked).ljust(REQUEST_SIZE, b"\0")


def read_owners(answer: bytes) -> Iterator[int]:
    """The uid in each message of an answer that describes a socket."""
    while answer:
        length, kind = from_native(answer[:4]), from_native(answer[4:6])
        if kind == SOCK_DIAG_BY_FAMILY:
            yield from_native(answer[UID_OFFSET : UID_OFFSET + 4])
        answer = answer[length + 3 & ~3 :]


def native(number: int, size: int = 4) -> bytes:
    """A number as it is in this machine's memory."""
    return number.to_bytes(size, BYTE_ORDER)


def from_native(content: bytes) -> int:
    """The inverse of `native`."""
    return int.from_bytes(content, BYTE_ORDER)
