"""The check of corner: Bob has a port on one address, and the program takes what is left of it."""

import struct
from socket import SO_RCVTIMEO, SOCK_DGRAM, SOL_SOCKET

from labs.engine.challenge import (
    OK,
    CallError,
    Host,
    Process,
    Program,
    SocketRow,
    Trial,
    challenge,
    exactly,
)

BOBS = "127.0.0.53"
REQUESTS = 10
DATAGRAM_SECONDS = 2
SOCKETS = 3


@challenge(
    "corner",
    title="Take all of a port that a stranger on one address has left over",
    hints=(
        (
            "Bob has the port for one address and one protocol. Write down which addresses each of "
            "your three sockets means, and whether Bob's is one of them."
        ),
        (
            "0.0.0.0 is all IPv4 addresses, his too. A socket on [::] takes IPv4 as well, unless "
            "it is told otherwise. UDP has a table of ports of its own."
        ),
        (
            "Three sockets: TCP on ADDRESS itself; TCP on [::] with IPV6_V6ONLY set before bind(); "
            "UDP on 0.0.0.0. A thread for each, or one loop of selectors, serves them."
        ),
    ),
    advice={
        "none": "Nothing listens on {address}, port {port}, over TCP.",
        "meets": "bind() was refused: one of your TCP sockets meets Bob's {bobs}. 0.0.0.0 is all "
        "IPv4 addresses, and [::] takes them in too unless IPV6_V6ONLY is set.",
        "six": "Nothing listens on port {port} of the IPv6 addresses.",
        "narrow": "Of the IPv6 addresses only {address} has a listener. All of them were asked "
        "for, later ones too.",
        "datagram": "{count} of 2 datagrams were answered with your program's name. TCP's ports "
        "are not UDP's: there nobody has port {port} of any address.",
        "silent": "Not every client was answered. Each connection gets the program's name, over "
        "IPv4 and over IPv6, and is then closed.",
    },
)
def corner(trial: Trial) -> None:
    """Bob listens, then the program, in every corner that he has left."""
    port = trial.port(5353)
    server = trial.host("server")
    bob = server.process("bob", user="bob")
    with trial.step(
        "Bob listens on port {port} of {address}, and will stay there",
        expect=OK,
        why="One address, one protocol: the rest of the port is free.",
        port=port,
        address=BOBS,
    ):
        bob.listen(port, address=BOBS).serve()
    start(trial, server, port)
    ask_by_datagram(trial, server, port)
    ask_by_stream(trial, server, port)


def start(trial: Trial, server: Host, port: int) -> Program:
    """Start the program: two listeners beside Bob's."""
    with trial.step(
        "Your program starts, and listens on {address}",
        expect=exactly(1, "listeners on the address"),
        why="Bob's address and this one are not equal, and neither is the wildcard "
        "(inet_rcv_saddr_equal()): they never meet.",
        address=server.ipv4,
    ) as step:
        program = trial.start("corner", server, port, "corner", server.ipv4, user="alice")
        trial.settle(lambda: len(find(server, port)) >= SOCKETS)
        step.advise("none", address=server.ipv4, port=port)
        step.advise("meets", when="Address already in use" in program.output, bobs=BOBS)
        step.measured(sum(row.local[0] == server.ipv4 for row in find_listeners(server, port)))

    with trial.step(
        "And on all IPv6 addresses",
        expect=exactly(1, "listeners on [::]"),
        why="A socket on [::] is in the way of IPv4 sockets only if it would take their "
        "connections too; IPV6_V6ONLY says that it does not (ipv6_rcv_saddr_equal()).",
    ) as step:
        server.show()
        found = [row.local[0] for row in find_listeners(server, port) if ":" in row.local[0]]
        step.advise("six", port=port)
        step.advise("narrow", when=bool(found), address=" ".join(found))
        step.measured(found.count("::"))
    return program


def find(server: Host, port: int) -> list[SocketRow]:
    """What sockets wait on the port, apart from Bob's: listeners, and those of UDP."""
    unconnected = [row for row in server.sockets(port) if row.protocol == "udp"]
    return [*unconnected, *find_listeners(server, port)]


def find_listeners(server: Host, port: int) -> list[SocketRow]:
    """Listeners on the port, apart from Bob's."""
    rows = [row for row in server.sockets(port) if row.state == "LISTEN"]
    return [row for row in rows if row.local[0] != BOBS]


def ask_by_datagram(trial: Trial, server: Host, port: int) -> None:
    """UDP has all IPv4 addresses, Bob's too."""
    near = server.process("near", user="carol")
    far = trial.host("elsewhere").process("far", user="carol")
    with trial.step(
        "A datagram comes to {address}, and one to Bob's {bobs}",
        expect=exactly(2, "datagrams answered"),
        why="Bob has the port for TCP. UDP looks into a table of its own (udp_lib_get_port()), and "
        "there even the wildcard was free.",
        address=server.ipv4,
        bobs=BOBS,
    ) as step:
        answers = [exchange(far, (server.ipv4, port)), exchange(near, (BOBS, port))]
        count = answers.count("corner")
        step.advise("datagram", count=count, port=port)
        step.measured(count)


def exchange(client: Process, address: tuple[str, int]) -> str:
    """Send a datagram: what comes back; empty where nothing does in time."""
    socket = client.socket(kind=SOCK_DGRAM)
    limit = struct.pack("@ll", DATAGRAM_SECONDS, 0)
    socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit.decode("latin-1"))
    socket.sendto("hello", address)
    try:
        return socket.recv(100).strip()
    except CallError:
        return ""


def ask_by_stream(trial: Trial, server: Host, port: int) -> None:
    """TCP clients of both families reach the program, and Bob's reach Bob."""
    client = trial.host("third").process("client", user="carol")
    with trial.step(
        "{count} clients come to {ipv4}, and as many to {ipv6}",
        expect=exactly(2 * REQUESTS, "answers"),
        why="For each packet the kernel looks for the listener that fits its address best "
        "(compute_score()).",
        count=REQUESTS,
        ipv4=server.ipv4,
        ipv6=server.ipv6,
    ) as step:
        parts = {
            address: trial.ask(client, (address, port), REQUESTS).by.get("corner", 0)
            for address in (server.ipv4, server.ipv6)
        }
        step.advise("silent")
        step.measured(sum(parts.values()), parts)

    with trial.step(
        "{count} of Bob's clients come to {address}",
        expect=exactly(REQUESTS, "answers of Bob's"),
        why="Nobody has taken anything from him.",
        count=REQUESTS,
        address=BOBS,
    ) as step:
        local = server.process("local", user="carol")
        step.measured(trial.ask(local, (BOBS, port), REQUESTS).by.get("bob", 0))
