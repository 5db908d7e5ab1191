"""The check of inside: servers in user namespaces of their own, and the program beside each."""

from dataclasses import dataclass

from labs.engine.challenge import Host, Process, Requirement, Trial, challenge, exactly

REQUESTS = 40  # by a hash over two: one of them gets none in 1 of 2 ** 39 runs
NEEDED = ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN")


@dataclass(frozen=True)
class Server:
    """A server on a port of its own: its user inside, and whom that stands for outside."""

    name: str
    port: int
    user: str
    outer: str = ""


@challenge(
    "inside",
    title="Share the port of a server whose uid is not what it says",
    hints=(
        (
            "UID is what the server calls itself. Look at the steps of the lab in which somebody "
            "asks who has the port: who is told which number?"
        ),
        (
            "The kernel keeps a socket's owner as a kuid, and compares that. To you it shows the "
            "owner in your numbers: in the column uid of /proc/net/tcp, and in sock_diag, which is "
            "what ss -tlne reads."
        ),
        (
            "Find the line of PORT in state 0A (LISTEN) in /proc/net/tcp. Call seteuid() with its "
            "uid before socket(), or fchown() after it; then set SO_REUSEPORT and call bind()."
        ),
    ),
    advice={
        "unfit": "Bob is called {uid} inside and outside, and still your program does not share "
        "his port: its socket needs his uid, which socket() takes from the effective one, and "
        "SO_REUSEPORT, both before bind().",
        "number": "On port {port} the server calls itself {uid}, but the kernel says that its "
        "socket's owner is {owner} here. In its user namespace {uid} stands for somebody else than "
        "in yours.",
        "silent": "On port {port} not every client was answered, or not by both. Your program has "
        "to answer each connection with its NAME, and to close it.",
    },
)
def inside(trial: Trial) -> None:
    """A server without a map of its own, and two with one; the program joins each."""
    host = trial.host("server")
    bob = Server("bob", trial.port(8080), "bob")
    carol = Server("carol-as-bob", trial.port(8081), "bob", "carol")
    dave = Server("dave-as-root", trial.port(8082), "root", "dave")
    with trial.step(
        "Bob listens on port {port}, and your program beside him",
        expect=exactly(2, "listeners"),
        why="Both sockets have one owner. Here his number is the same for everybody.",
        port=bob.port,
    ) as step:
        step.advise("unfit", uid=trial.uid("bob"))
        join(trial, step, host, bob)

    with trial.step(
        "Where Bob's uid stands for Carol, a server listens on {port}, and your program beside it",
        expect=exactly(2, "listeners"),
        why="The same number, another kuid (make_kuid()). What it says of itself is no help; the "
        "kernel shows its owner in the numbers of whoever asks (from_kuid_munged()).",
        port=carol.port,
    ) as step:
        step.advise("number", port=carol.port, uid=trial.uid("bob"), owner=trial.uid("carol"))
        join(trial, step, host, carol)

    with trial.step(
        "Where uid 0 stands for Dave, a server listens on {port}, and your program beside it",
        expect=exactly(2, "listeners"),
        why="A rootless container: its root is Dave, and your program, which root has started, is "
        "somebody else to it until it is Dave as well.",
        port=dave.port,
    ) as step:
        step.advise("number", port=dave.port, uid=0, owner=trial.uid("dave"))
        join(trial, step, host, dave)

    serve(trial, host, [bob, carol, dave])


def join(trial: Trial, step: Requirement, host: Host, server: Server) -> None:
    """Let a server listen, and start the program beside it."""
    process = host.process(server.name, user=server.user, outer=server.outer)
    process.listen(server.port, reuseport=True).serve()
    uid, name = trial.uid(server.user), f"beside-{server.name}"
    trial.start(name, host, server.port, uid, name, user="root", capabilities=NEEDED)
    trial.settle(lambda: len(host.queues(server.port)) > 1)
    step.measured(len(host.queues(server.port)))


def serve(trial: Trial, host: Host, servers: list[Server]) -> None:
    """Clients of each port come to both of its servers."""
    client: Process = trial.host("elsewhere").process("client", user="erin")
    wanted = len(servers) * REQUESTS
    with trial.step(
        "{count} clients come to each of the ports",
        expect=exactly(wanted, "answers, of both servers of each port"),
        why="Two sockets of one owner are a group, and each gets its share.",
        count=REQUESTS,
    ) as step:
        parts: dict[str, float] = {}
        count = 0
        for server in servers:
            answers = trial.ask(client, (host.ipv4, server.port), REQUESTS)
            parts |= answers.by
            names = {server.name, f"beside-{server.name}"}
            step.advise("silent", port=server.port)
            if {*answers.by} != names or answers.lost:
                break
            count += answers.answered
        step.measured(count, parts)
