"""The check of both: a server of two families beside somebody else's of one address."""

from labs.engine.challenge import OK, Host, Process, Program, Trial, challenge, exactly

REQUESTS = 10
LOOPBACK, LOOPBACK6 = "127.0.0.1", "::1"


@challenge(
    "both",
    title="Serve IPv4 and IPv6 on one port, where another has a part of it",
    hints=(
        (
            "Which addresses does your socket ask for, and which of them has Bob? Look at the "
            "steps of the lab in which Alice asks for :: and Bob is there already."
        ),
        (
            "A dual-stack :: is all IPv4 addresses too, so Bob's address is in its way, as it is "
            "in the way of 0.0.0.0. IPV6_V6ONLY, before bind(), makes :: meet no IPv4 address."
        ),
        (
            "Two sockets: one for :: with IPV6_V6ONLY, one of IPv4 for ADDRESS alone. Wait for "
            "both at once, with a selector or two threads, and answer with the peer's address."
        ),
    ),
    advice={
        "refused": "Bob has port {port} on 127.0.0.1, and whoever asks for it on all IPv4 "
        "addresses is refused: 0.0.0.0 is that, and so is a :: that is dual-stack.",
        "late": "IPV6_V6ONLY has to be set before bind(): on a socket that is bound it is EINVAL.",
        "half": "Nobody listens for {family} clients on port {port}: they were refused.",
        "turns": "Some clients were not answered. A process that waits in accept() on one socket "
        "does not see the clients of the other: wait for both at once.",
        "mapped": "An IPv4 client was told an address that begins with ::ffff:. That is how an "
        "IPv6 socket writes IPv4 addresses; the client knows its own without it.",
        "wrong": "Not every client was told its own address, and no more: neither a port nor "
        "anything else.",
        "narrow": "Clients of ::1 were not answered: all IPv6 addresses are asked for.",
        "bob": "Bob's server on 127.0.0.1 does not get its clients any more.",
    },
)
def both(trial: Trial) -> None:
    """Bob has 127.0.0.1; the program is to have the rest that is asked for."""
    port = trial.port(8080)
    server, elsewhere = trial.host("server"), trial.host("elsewhere")
    bob = server.process("bob", user="bob")
    local = server.process("local", user="carol")
    client = elsewhere.process("client", user="carol")

    with trial.step(
        "Bob listens on port {port} of 127.0.0.1",
        expect=OK,
        why="One address of IPv4, and nothing of IPv6.",
        port=port,
    ):
        bob.listen(port, address=LOOPBACK).serve()

    start(trial, server)
    for family in trial.shuffled(["IPv4", "IPv6"]):
        ask(trial, client, server, family)
    ask(trial, client, server, "IPv4")
    ask(trial, client, server, "IPv6")

    with trial.step(
        "{count} clients come from the host itself to ::1, and {count} to 127.0.0.1",
        expect=exactly(2 * REQUESTS, "right answers"),
        why="::1 is one of all IPv6 addresses; 127.0.0.1 is Bob's, as it was.",
        count=REQUESTS,
    ) as step:
        near = trial.ask(local, (LOOPBACK6, port), REQUESTS).by.get(LOOPBACK6, 0)
        bobs = trial.ask(local, (LOOPBACK, port), REQUESTS).by.get("bob", 0)
        step.advise("wrong")
        step.advise("narrow", when=near == 0)
        step.advise("bob", when=bobs < REQUESTS)
        step.measured(near + bobs, {LOOPBACK6: near, LOOPBACK: bobs})


def start(trial: Trial, server: Host) -> Program:
    """The program starts, and listens for clients of both families."""
    port = trial.port(8080)
    with trial.step(
        "Your program starts, and listens for both families",
        expect=exactly(2, "families that are served"),
        why="Its addresses meet nobody else's (ipv6_rcv_saddr_equal()).",
    ) as step:
        program = trial.start("twofold", server, port, server.ipv4, user="alice")
        trial.settle(lambda: len(families(trial, program, port)) == 2)
        found = families(trial, program, port)
        for family in ("IPv4", "IPv6"):
            step.advise("half", when=family not in found, family=family, port=port)
        step.advise("refused", when="Address already in use" in program.output, port=port)
        step.advise("late", when="Invalid argument" in program.output)
        step.measured(len(found))
    return program


def families(trial: Trial, program: Program, port: int) -> set[str]:
    """The families for which a program has a listener; Bob's address keeps :: from being both."""
    inodes = set(trial.listeners(program, port))
    rows = [row for row in program.host.sockets(port) if row.inode in inodes]
    return {"IPv4" if "." in row.local[0] else "IPv6" for row in rows}


def ask(trial: Trial, client: Process, server: Host, family: str) -> None:
    """Clients of one family are told their own address."""
    port = trial.port(8080)
    address, own = (
        (server.ipv4, client.host.ipv4) if family == "IPv4" else (server.ipv6, client.host.ipv6)
    )
    with trial.step(
        "{count} clients come by {family}",
        expect=exactly(REQUESTS, "clients that are told their own address"),
        why="Each family has a socket of its own, and so the address is as the client knows it.",
        count=REQUESTS,
        family=family,
    ) as step:
        answers = trial.ask(client, (address, port), REQUESTS)
        step.advise("wrong")
        step.advise("mapped", when=any(who.startswith("::ffff:") for who in answers.by))
        step.advise("half", when=answers.refused > 0, family=family, port=port)
        step.advise("turns", when=answers.timed_out > 0)
        step.measured(answers.by.get(own, 0), answers.parts)
