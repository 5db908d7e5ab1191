"""The check of pod: the containers of a pod share one port, and one of them has the other."""

from signal import SIGKILL

from labs.engine.challenge import (
    EADDRINUSE,
    Host,
    Process,
    Program,
    Requirement,
    Trial,
    challenge,
    exactly,
)

CONTAINERS = 2
REQUESTS = 40  # by a hash over two: one of them gets none in 1 of 2 ** 39 runs


@challenge(
    "pod",
    title="Let all containers of a pod share a port, and only one of them have another",
    hints=(
        (
            "Containers of a pod are processes of one network namespace. What else have two "
            "sockets to have in common to share a port there? One of your containers is started "
            "by root."
        ),
        (
            "PORT takes SO_REUSEPORT and one user on all sides, and a socket belongs to the "
            "effective uid of the moment in which socket() was called. ADMIN is the opposite: a "
            "port that nobody shares is a lock, held by whoever was the first to bind() it."
        ),
        (
            "Become UID before the first socket(). Set SO_REUSEPORT for PORT and nothing for "
            "ADMIN. As long as bind() to ADMIN fails, close that socket, serve PORT, and try again "
            "a few times each second: select() with a timeout does both."
        ),
    ),
    advice={
        "none": "Nothing listens on port {port}.",
        "alone": "The second container cannot share port {port}: the socket that is there has no "
        "SO_REUSEPORT.",
        "users": "The second container cannot share port {port}: the socket that is there is uid "
        "{owner}'s, and the other one's would be somebody else's. Both containers have to make "
        "theirs as uid {uid}, whoever has started them.",
        "nobody": "No container has port {admin}.",
        "both": "{count} containers have port {admin}: where both sockets set SO_REUSEPORT, it is "
        "nobody's alone.",
        "silent": "Not every client was answered, or not by both containers. The one that has "
        "ADMIN serves PORT too.",
        "headless": "The container that had port {admin} was killed, and the other one has not "
        "taken it. It has to try again until it gets it.",
        "apart": "In a pod of its own your program has {count} of the two ports. What other pods "
        "have is not in its way.",
    },
)
def pod(trial: Trial) -> None:
    """Two containers of a pod, one of which is killed and started again; then another pod."""
    port, admin = trial.port(8080), trial.port(9090)
    host = trial.host("pod")
    client = trial.host("elsewhere").process("client", user="carol")
    users = trial.shuffled(["alice", "root"])
    programs = start(trial, host, users, port, admin)
    share(trial, host, client, port)
    leader, other = sorted(programs, key=lambda program: not trial.listeners(program, admin))
    succeed(trial, leader, other, admin)

    user = users[programs.index(leader)]
    with trial.step(
        "The container is started again, by {user}",
        expect=exactly(1, "containers that have ADMIN"),
        why="It shares PORT at once, and waits for ADMIN like anybody else.",
        user=user,
    ) as step:
        again = launch(trial, "again", host, user, port, admin)
        settle(trial, host, [other, again], port)
        judge_admin(step, host, admin)

    with trial.step(
        "In another pod your program starts once",
        expect=exactly(2, "ports that it has"),
        why="Another network namespace: both ports are free there (inet_bind_bucket_match()).",
    ) as step:
        apart = trial.host("pod-2")
        third = launch(trial, "third", apart, "alice", port, admin)
        trial.settle(lambda: len(find_ports(trial, third, port, admin)) == 2)
        count = len(find_ports(trial, third, port, admin))
        step.advise("apart", count=count)
        step.measured(count)


def start(trial: Trial, host: Host, users: list[str], port: int, admin: int) -> list[Program]:
    """Two containers of a pod, whose images begin as different users."""
    programs: list[Program] = []
    uid = trial.uid("alice")
    with trial.step(
        "In a pod your program is started by {first}, and then by {second}",
        expect=exactly(CONTAINERS, "listeners on the shared port"),
        why="One network namespace, one user, SO_REUSEPORT on both sides: nothing else is asked "
        "(inet_csk_bind_conflict()).",
        first=users[0],
        second=users[1],
    ) as step:
        for user in users:
            programs.append(launch(trial, f"by-{user}", host, user, port, admin))
            trial.settle(lambda: len(host.queues(port)) == len(programs))
        step.advise("none", when=not host.queues(port), port=port)
        second = programs[-1]
        if second.status is None or "Address already in use" in second.output:
            advise_on_first(step, host, port, uid)
        step.measured(len(host.queues(port)))

    with trial.step(
        "Who has port {admin}?",
        expect=exactly(1, "containers that have ADMIN"),
        why="A port that one does not share is a lock. The kernel gives it to one, and takes it "
        "back however that one ends.",
        admin=admin,
    ) as step:
        host.show()
        settle(trial, host, programs, port)
        trial.settle(lambda: bool(host.queues(admin)), seconds=2)
        judge_admin(step, host, admin)
    return programs


def launch(trial: Trial, name: str, host: Host, user: str, port: int, admin: int) -> Program:
    """Start the program in a container whose image begins as this user."""
    capabilities = ["CAP_SETUID", "CAP_SETGID"] if user == "root" else []
    arguments = (port, admin, trial.uid("alice"), name)
    return trial.start(name, host, *arguments, user=user, capabilities=capabilities)


def settle(trial: Trial, host: Host, programs: list[Program], port: int) -> None:
    """Wait until the containers share the port, and have tried to get the other one."""
    trial.settle(lambda: len(host.queues(port)) == CONTAINERS)
    everybody = [row for program in programs for row in trial.family(program)]
    trial.settle(lambda: trial.are_asleep(host, everybody), seconds=2)


def advise_on_first(step: Requirement, host: Host, port: int, uid: int) -> None:
    """Why nobody could share the port with the listener that is there."""
    for row in host.sockets(port):
        if row.state == "LISTEN":
            held = [held for process in host.processes() for held in process.sockets]
            shares = any(held.reuseport for held in held if held.inode == row.inode)
            step.advise("users", when=shares, port=port, owner=row.uid, uid=uid)
            step.advise("alone", when=not shares, port=port)


def judge_admin(step: Requirement, host: Host, admin: int) -> None:
    """How many sockets listen on the port that one shall have."""
    count = len(host.queues(admin))
    step.advise("nobody", when=not count, admin=admin)
    step.advise("both", when=count > 1, admin=admin, count=count)
    step.measured(count)


def share(trial: Trial, host: Host, client: Process, port: int) -> None:
    """A stranger is refused, and clients come to both."""
    with trial.step(
        "A container of Bob's in the pod asks for the shared port, with SO_REUSEPORT",
        expect=EADDRINUSE.by("bind"),
        why="Another user: a sidecar that runs under a uid of its own does not share.",
    ):
        host.process("bob", user="bob").listen(port, reuseport=True)

    with trial.step(
        "{count} clients come to the pod's address",
        expect=exactly(REQUESTS, "answers, of both containers"),
        why="One address, two sockets: the kernel spreads the connections over them.",
        count=REQUESTS,
    ) as step:
        answers = trial.ask(client, (host.ipv4, port), REQUESTS)
        step.advise("silent")
        both = len(answers.by) == CONTAINERS
        step.measured(answers.answered if both else 0, answers.by)


def succeed(trial: Trial, leader: Program, other: Program, admin: int) -> None:
    """The container that has the one port is killed, and the other one takes it."""
    with trial.step(
        "The container that has port {admin} is killed",
        expect=exactly(1, "listeners of the other container on ADMIN"),
        why="Its socket is closed with it. Nobody tells the other one that the port is free: it "
        "has to ask.",
        admin=admin,
    ) as step:
        trial.expect_end(leader)
        for row in trial.family(leader):
            trial.signal(leader.host, [row], SIGKILL)
        trial.settle(lambda: bool(trial.listeners(other, admin)))
        step.advise("headless", admin=admin)
        step.measured(len(trial.listeners(other, admin)))


def find_ports(trial: Trial, program: Program, *ports: int) -> list[int]:
    """On which of the ports a program listens."""
    return [port for port in ports if trial.listeners(program, port)]
