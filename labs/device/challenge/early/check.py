"""The check of early: a server waits for an address that moves between two hosts."""

from pathlib import Path

from labs.engine.challenge import OK, Host, Process, Program, Trial, challenge, exactly

REQUESTS = 10
HELPER = Path(__file__).with_name("address.py")


@challenge(
    "early",
    title="Listen on an address that the host does not have yet",
    hints=(
        (
            "bind() has said EADDRNOTAVAIL. Which step of the lab gets the same, and what does "
            "Alice do then?"
        ),
        (
            "IP_FREEBIND, an option of the level IPPROTO_IP, lets bind() take an IPv4 address that "
            "is not there. It takes no capability. The number is 15, where your language has no "
            "name for it."
        ),
        (
            "setsockopt(IPPROTO_IP, 15, 1), then bind((ADDRESS, PORT)) and listen(): once, at the "
            "start. When the address comes, nothing is left to be done."
        ),
    ),
    advice={
        "absent": "bind() was refused: the host does not have the address {address}, and without "
        "an option bind() takes only what is there.",
        "wildcard": "bind() was refused: on all addresses port {port} meets that of Bob's server, "
        "which has it on the host's own address.",
        "waits": "Your program runs, but has no listener on {address}. It is to listen before the "
        "address comes, not when: whoever comes in between would be refused.",
        "elsewhere": "Your program listens on port {port} of another address, not of {address}.",
        "device": "Clients of {address} were refused, though your program has a listener there. Is "
        "it bound to a device on which they do not come?",
        "silent": "Not every client was answered. Each connection gets the name, and is then "
        "closed.",
        "bob": "Bob's server does not get its clients any more.",
    },
)
def early(trial: Trial) -> None:
    """Two hosts stand by for an address, and each has it in its turn."""
    names = trial.shuffled(["north", "south"])
    hosts = [trial.host(name) for name in names]
    address = f"{hosts[0].ipv4.rsplit('.', 2)[0]}.200.1"
    port = trial.port(8080)
    for host in hosts:
        serve_own(trial, host, port)
        stand_by(trial, host, address, port)
    for number, host in enumerate(hosts, 1):
        # Another client for each: the first would go on to send to the host that had the address.
        client = trial.host(f"elsewhere-{number}").process(f"client-{number}", user="carol")
        give(trial, host, address, number)
        ask(trial, client, host, address, port)
        take(trial, host, address, number)


def serve_own(trial: Trial, host: Host, port: int) -> None:
    """Bob has the port on the host's own address."""
    with trial.step(
        "On {host} Bob listens on port {port} of its own address",
        expect=OK,
        why="One address of several that the host may have.",
        host=host.name,
        port=port,
    ):
        bob = host.process(f"bob-{host.name}", user="bob")
        bob.listen(port, address=host.ipv4).serve()


def stand_by(trial: Trial, host: Host, address: str, port: int) -> Program:
    """The program listens on an address that is not there."""
    with trial.step(
        "Your program starts on {host}, which does not have {address}",
        expect=exactly(1, "listener on the address"),
        why="With IP_FREEBIND bind() does not ask whether the address is there "
        "(inet_addr_valid_or_nonlocal()).",
        host=host.name,
        address=address,
    ) as step:
        program = trial.start(host.name, host, address, port, host.name, user="alice")
        trial.settle(lambda: find_listener(trial, program, address, port), seconds=3)
        step.advise("absent", address=address)
        refused = "Address already in use" in program.output
        step.advise("wildcard", when=refused, port=port)
        step.advise("waits", when=program.status is None, address=address)
        others = bool(trial.listeners(program, port))
        step.advise("elsewhere", when=others, address=address, port=port)
        step.measured(int(find_listener(trial, program, address, port)))
    return program


def find_listener(trial: Trial, program: Program, address: str, port: int) -> bool:
    """Whether a program has a listener on the very address, also as an IPv6 socket writes it."""
    inodes = trial.listeners(program, port)
    places = (address, f"::ffff:{address}")
    return any(row.inode in inodes and row.local[0] in places for row in program.host.sockets(port))


def give(trial: Trial, host: Host, address: str, number: int) -> None:
    """The address comes to a host."""
    with trial.step(
        "{host} gets the address {address}",
        expect=exactly(1, "change made"),
        why="Who moves it is not your program's affair: keepalived does it, or a cloud's agent.",
        host=host.name,
        address=address,
    ) as step:
        step.measured(run_helper(trial, host, f"giver-{number}", "add", address))


def take(trial: Trial, host: Host, address: str, number: int) -> None:
    """The address goes."""
    with trial.step(
        "{host} loses the address {address}",
        expect=exactly(1, "change made"),
        why="The listener stays, as it was before.",
        host=host.name,
        address=address,
    ) as step:
        step.measured(run_helper(trial, host, f"taker-{number}", "remove"))


def run_helper(trial: Trial, host: Host, name: str, *arguments: str) -> int:
    """Let a program of the check's own change the host's addresses; 1 when it has."""
    helper = trial.start_own(
        name, host, HELPER, *arguments, user="root", capabilities=["CAP_NET_ADMIN"]
    )
    helper.succeed()
    return int(helper.status == 0)


def ask(trial: Trial, client: Process, host: Host, address: str, port: int) -> None:
    """Clients of both addresses are answered, by those whose they are."""
    with trial.step(
        "{count} clients come to {address}",
        expect=exactly(REQUESTS, "right answers"),
        why="The listener was there before the address, and nobody is refused meanwhile.",
        count=REQUESTS,
        address=address,
    ) as step:
        answers = trial.ask(client, (address, port), REQUESTS)
        step.advise("silent")
        step.advise("device", when=answers.refused > 0, address=address)
        step.measured(answers.by.get(host.name, 0), answers.parts)

    with trial.step(
        "{count} clients come to the host's own address",
        expect=exactly(REQUESTS, "answers of Bob's server"),
        why="Another address is another port: the two never meet (inet_rcv_saddr_equal()).",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (host.ipv4, port), REQUESTS)
        step.advise("bob")
        step.measured(answers.by.get(f"bob-{host.name}", 0), answers.parts)
