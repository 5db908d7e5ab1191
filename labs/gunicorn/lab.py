"""What gunicorn does with its port: one listener for all workers, with --reuse-port too."""

from collections.abc import Callable
from dataclasses import dataclass
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM, SIGUSR2

from labs.engine.script import (
    HTTP_GET,
    Answers,
    CallError,
    Child,
    Finding,
    Host,
    Process,
    Program,
    Run,
    Step,
    between,
    exactly,
    lab,
)

WORKERS = 4
SLEEPY = 24  # connections, each of which comes when all workers sleep
CLIENTS = 8
RELOADS = 4
SOME = 100  # requests before a reload, between two, after, and in a gap
MOST = 20_000
WAITING = 24  # connections in the queues of workers that are busy

LISTENERS = "listeners on the port"
IN_VAIN = "wake-ups of workers that got no connection"
HERD = SLEEPY * (WORKERS - 1)
# Besides its wake-ups for connections a worker may sleep once more, for a page or a lock.
SPARE = SLEEPY
LOST = "requests lost"
READY = "answers requests"  # as the application says it, when a worker has loaded it

# Each worker says when it is there, and answers with its pid.
APPLICATION = """\
import os, sys

print(os.getpid(), "answers requests", file=sys.stderr, flush=True)

def application(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@dataclass(frozen=True)
class Plan:
    """What gunicorn is started with."""

    name: str
    port: int
    user: str = "alice"
    reuse_port: bool = False

    @property
    def module(self) -> str:
        """The application's module: one for each, as a user cannot write another's file."""
        return f"application_{self.name}"

    @property
    def arguments(self) -> list[str]:
        """Its command line."""
        return [
            *("--bind", f"0.0.0.0:{self.port}", "--workers", str(WORKERS)),
            *("--pythonpath", "/tmp", "--worker-tmp-dir", "/tmp"),  # noqa: S108 - a host's own
            *(["--reuse-port"] if self.reuse_port else []),
            self.module,
        ]


@dataclass(frozen=True)
class Server:
    """A gunicorn that runs: its port, who started it, its arbiter, and its first workers."""

    port: int
    starter: Process
    arbiter: Program
    workers: list[Child]

    @property
    def host(self) -> Host:
        """Where it runs."""
        return self.starter.host

    @property
    def address(self) -> tuple[str, int]:
        """Where its clients find it."""
        return self.host.ipv4, self.port

    def reload(self) -> None:
        """SIGHUP: new workers for the old ones; returns when the old ones are gone."""
        before = {*self.arbiter.children()}
        self.arbiter.kill(SIGHUP)
        self.arbiter.wait_until(lambda: self.is_renewed(before), "its workers are new")

    def is_renewed(self, before: set[int]) -> bool:
        """Whether all workers are there, answer, and are none of those from before."""
        now = {*self.arbiter.children()}
        return len(now) == WORKERS and not now & before and now <= find_ready(self.arbiter)

    def end(self) -> None:
        """SIGTERM: its workers finish what they are at, and it ends."""
        self.arbiter.kill(SIGTERM)
        self.arbiter.succeed()


@lab(
    "gunicorn",
    title="How gunicorn shares its port among workers, and which restarts lose requests",
    claim="With --reuse-port each worker of gunicorn has a queue of its own: no herd, and "
    "restarts that lose nothing.",
)
def gunicorn(run: Run) -> None:
    """A gunicorn without the option and one with it; others join; then both are renewed."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    # In containers a program is where gunicorn is.
    client = elsewhere.process("client", user="bob", program="gunicorn")
    neighbour = server.process("neighbour", user="bob")
    shared = share_one_listener(run, server, neighbour)
    curl = ask_with_curl(run, client, shared)
    first = reuse_port(run, server, neighbour)
    second = ask_to_join(run, server, first)
    change_over(run, client, first, second)
    reload_under_load(run, client, shared)
    upgrade(run, client, second)
    stop_then_start(run, client, shared)
    run.conclude(
        Finding.REFUTED,
        "the arbiter makes one listener, with the option or without, and every connection woke "
        "all {workers} workers. The option let a second gunicorn of the same user join; the one "
        "that then ended lost what waited in its queue. HUP and USR2, which keep the listener, "
        "lost nothing; a stop and a start lost all that came between.",
        aside=[curl],
        workers=WORKERS,
    )


# --- one listener -------------------------------------------------------------------------


def share_one_listener(run: Run, host: Host, neighbour: Process) -> Server:
    """As it comes: the workers inherit the arbiter's listener."""
    with run.step(
        "gunicorn with {workers} sync workers. How many processes hold its one listener?",
        expect=exactly(WORKERS + 1, "processes that hold the listener"),
        why="The arbiter binds and listens, then forks: the workers inherit its socket, and the "
        "arbiter, which never accepts, keeps it for those to come. The pattern of the lab fork.",
        workers=WORKERS,
    ) as step:
        shared = start(host, Plan("shared", run.port(8080)))
        (listener,) = host.queues(shared.port)
        step.measured(len(find_holders(host, listener)))

    with run.step(
        "{count} connections come, each when all workers sleep",
        expect=between(HERD, HERD + SPARE, IN_VAIN),
        why="A sync worker waits in select(), for the listener and a pipe of its own. select() "
        "does not wait exclusively (__pollwait()): a connection wakes all, one accepts, and "
        "{others} get EAGAIN. The herd.",
        count=SLEEPY,
        others=WORKERS - 1,
    ) as step:
        woken, in_vain = ask_sleepers(neighbour, shared)
        step.measured(in_vain, woken)
    return shared


def ask_with_curl(run: Run, client: Process, shared: Server) -> Step:
    """A real client; returns the step, which takes a program."""
    with run.step(
        "curl asks from another host. Who answers?",
        expect=exactly(1, "answers by one of the workers"),
        why="The application answers with its pid, that of a worker: whichever called accept() "
        "first.",
    ) as step:
        address, port = shared.address
        try:
            curl = client.spawn("curl", "curl", "--silent", f"http://{address}:{port}/")
        except CallError:
            step.skip("there is no curl that the client could execute")
        curl.succeed()
        curl.quote("")
        step.measured(sum(curl.output.strip() == str(worker.pid) for worker in shared.workers))
    return step


def reuse_port(run: Run, host: Host, neighbour: Process) -> Server:
    """--reuse-port: an option of the one listener."""
    with run.step(
        "gunicorn with `--reuse-port` and {workers} workers. How many listeners?",
        expect=exactly(1, LISTENERS),
        why="It sets SO_REUSEPORT on the arbiter's socket, before bind(), and forks as ever. For "
        "a group each worker would have to bind a socket of its own.",
        workers=WORKERS,
    ) as step:
        first = start(host, Plan("first", run.port(8081), reuse_port=True))
        step.measured(host.count(first.port, "LISTEN"))

    with run.step(
        "{count} connections come, each when all workers sleep",
        expect=between(HERD, HERD + SPARE, IN_VAIN),
        why="One listener, one queue, and all wait at it: the option has changed nothing.",
        count=SLEEPY,
    ) as step:
        woken, in_vain = ask_sleepers(neighbour, first)
        step.measured(in_vain, woken)
    return first


# --- two on one port ----------------------------------------------------------------------


def ask_to_join(run: Run, host: Host, first: Server) -> Server:
    """What the option is for: another gunicorn, of the same user and of another one."""
    with run.step(
        "Carol starts another one with `--reuse-port` on the same port",
        expect=exactly(0, "listeners of hers"),
        why="Her socket would join Alice's group: EADDRINUSE (inet_csk_bind_conflict()). gunicorn "
        "says 'Connection in use', tries five times, a second apart, and gives up.",
    ) as step:
        plan = Plan("stranger", first.port, user="carol", reuse_port=True)
        starter, arbiter = spawn(host, plan)
        run.wait_until(lambda: "Connection in use" in arbiter.output, "its bind()")
        arbiter.quote("Connection in use")
        rows = host.sockets(first.port)
        step.measured(sum(row.state == "LISTEN" and row.uid == starter.uid("carol") for row in rows))
        arbiter.kill(SIGKILL)
        arbiter.wait()

    with run.step(
        "Alice starts another one. How many listeners are there now?",
        expect=exactly(2, LISTENERS),
        why="One user, and both sockets have the option: now there are two queues, one for each "
        "gunicorn. Neither says that it is not alone.",
    ) as step:
        second = start(host, Plan("second", first.port, reuse_port=True))
        step.measured(host.count(first.port, "LISTEN"))
    return second


def change_over(run: Run, client: Process, first: Server, second: Server) -> None:
    """The first ends while connections wait in its queue."""
    with run.step(
        "All workers of both are busy, {waiting} connections wait, and the first one ends",
        expect=between(1, WAITING, LOST),
        why="What is busy is stopped here by SIGSTOP. The hash has spread the connections over two "
        "queues. The first gunicorn's workers finish what they have, but do not drain their queue: "
        "the last close() resets it (inet_csk_listen_stop()).",
        waiting=WAITING,
    ) as step:
        answers = end_while_busy(run, client, first, second)
        step.measured(answers.lost, answers.parts)


# --- renewed ------------------------------------------------------------------------------


def reload_under_load(run: Run, client: Process, shared: Server) -> None:
    """SIGHUP: new workers at the same listener."""
    with run.step(
        "Under load gunicorn reloads {count} times, by HUP",
        expect=exactly(0, LOST),
        why="The arbiter keeps the listener and forks workers, which load the application anew; "
        "then it ends the old ones by TERM. They answer what they have accepted, and what waits "
        "is in the queue that all share.",
        count=RELOADS,
    ) as step:
        client.load(shared.address, MOST, clients=CLIENTS, words=HTTP_GET)
        for _ in range(RELOADS):
            client.wait_for_requests(SOME)
            shared.reload()
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)

    with run.step(
        "It reloads while a client has sent half of its request, which then sends the rest",
        expect=exactly(1, "answers by an old worker"),
        why="Who has accepted a connection is at it alone, blocked in recv(): TERM lets it finish "
        "first, for 30 seconds at most (--graceful-timeout and --timeout). A sync worker that "
        "waits for a slow client does nothing else.",
    ) as step:
        step.measured(reload_beside_slow_client(run, client, shared))


def upgrade(run: Run, client: Process, server: Server) -> None:
    """USR2: another program with the same listener."""
    with run.step(
        "Under load the program itself is replaced: USR2, and TERM for the old arbiter",
        expect=exactly(0, LOST),
        why="The arbiter forks and executes gunicorn anew, which inherits the listener and finds "
        "its descriptor in the variable GUNICORN_FD. Nothing is bound. Both serve, and the "
        "old one's end closes nothing that the new one does not hold.",
    ) as step:
        client.load(server.address, MOST, clients=CLIENTS, words=HTTP_GET)
        client.wait_for_requests(SOME)
        replace_program(run, server)
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)


def stop_then_start(run: Run, client: Process, shared: Server) -> None:
    """A restart without a handover."""
    with run.step(
        "Under load it is ended by TERM, and started again",
        expect=between(SOME, MOST, LOST),
        why="gunicorn sets SO_REUSEADDR, so its bind() succeeds beside TIME_WAIT. But Python, "
        "gunicorn and the application have to be loaded first, and whoever comes in this gap is "
        "refused.",
    ) as step:
        client.load(shared.address, MOST, clients=CLIENTS, words=HTTP_GET)
        client.wait_for_requests(SOME)
        shared.end()
        client.wait_for_requests(SOME)
        start(shared.host, Plan("again", shared.port))
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)


# --- what the steps are made of -----------------------------------------------------------


def start(host: Host, plan: Plan) -> Server:
    """Start gunicorn, and wait until all of its workers answer requests."""
    starter, arbiter = spawn(host, plan)
    workers = arbiter.name_children(f"{plan.name}-worker", WORKERS, user=plan.user)
    pids = {worker.pid for worker in workers}
    arbiter.wait_until(lambda: pids <= find_ready(arbiter), "its workers are ready")
    return Server(plan.port, starter, arbiter, workers)


def spawn(host: Host, plan: Plan) -> tuple[Process, Program]:
    """Start gunicorn with an application."""
    starter = host.process(plan.name, user=plan.user, program="gunicorn")
    starter.write_text(f"/tmp/{plan.module}.py", APPLICATION)  # noqa: S108 - a host's own
    return starter, starter.spawn(f"gunicorn-{plan.name}", "gunicorn", *plan.arguments)


def find_ready(arbiter: Program) -> set[int]:
    """The pids of workers that have loaded the application, as they have said."""
    lines = arbiter.output.splitlines()
    return {int(line.split()[0]) for line in lines if line.endswith(READY)}


def find_holders(host: Host, inode: int) -> set[int]:
    """The pids of the processes that hold this socket."""
    rows = host.processes()
    return {row.pid for row in rows if any(held.inode == inode for held in row.sockets)}


def ask_sleepers(client: Process, server: Server) -> tuple[dict[str, float], int]:
    """Connect SLEEPY times, when all workers sleep: who woke how often, and how often in vain.

    A worker wakes by its clock too, each 15 seconds (half of --timeout): later than this is over.
    """
    woken = {worker.name: 0.0 for worker in server.workers}
    in_vain = 0
    for _ in range(SLEEPY):
        answers = client.request_from_sleep(
            ("127.0.0.1", server.port), 1, server.workers, words=HTTP_GET
        )
        for worker in server.workers:
            count = answers.woken[str(worker.pid)]
            woken[worker.name] += count
            in_vain += count if str(worker.pid) not in answers.by else 0
    return woken, in_vain


def end_while_busy(run: Run, client: Process, first: Server, second: Server) -> Answers:
    """End the first while the workers of both are stopped, and connections wait in both queues."""
    host = first.host
    signal_workers(first, SIGSTOP)
    signal_workers(second, SIGSTOP)
    client.load(first.address, WAITING, clients=WAITING, words=HTTP_GET)
    run.wait_for_queues(host, first.port, WAITING)
    inodes = {*host.queues(first.port)}
    first.arbiter.kill(SIGTERM)
    # It closes its copy of the listener, and then tells its workers at once.
    run.wait_until(
        lambda: not any(first.arbiter.pid in find_holders(host, inode) for inode in inodes),
        "the arbiter has closed its listener",
    )
    signal_workers(first, SIGCONT)
    first.arbiter.succeed()
    signal_workers(second, SIGCONT)
    return client.stop_load(after=WAITING)


def signal_workers(server: Server, signal: int) -> None:
    """Send a signal to each of a server's workers."""
    for worker in server.workers:
        server.starter.send_signal(worker, signal)


def reload_beside_slow_client(run: Run, client: Process, server: Server) -> int:
    """Reload in the middle of a request: how many of the old workers answer it."""
    before = {*server.arbiter.children()}
    slow = client.connect(server.address)
    slow.send(HTTP_GET[:10])
    rows = server.host.sockets
    # A connection has an inode once it is accepted.
    run.wait_until(
        lambda: any(row.state == "ESTABLISHED" and row.inode for row in rows(server.port)),
        "a worker has accepted it",
    )
    server.arbiter.kill(SIGHUP)

    def only_one_is_left() -> bool:
        now = {*server.arbiter.children()}
        ready = now - before <= find_ready(server.arbiter)
        return len(now & before) == 1 and len(now - before) == WORKERS and ready

    server.arbiter.wait_until(only_one_is_left, "all but one of its workers are new")
    slow.send(HTTP_GET[10:])
    answer = ""
    while data := slow.recv(4096):
        answer += data
    slow.close()
    server.arbiter.wait_until(lambda: server.is_renewed(before), "its workers are new")
    return sum(answer.endswith(f"\r\n\r\n{pid}") for pid in before)


def replace_program(run: Run, server: Server) -> None:
    """USR2, and TERM for the old arbiter once the new one's workers answer."""
    old = server.arbiter
    workers = {*old.children()}
    old.kill(SIGUSR2)
    new: list[int] = []

    def is_up() -> bool:
        new[:] = {*old.children()} - workers
        pids = server.starter.list_children(Child("", new[0])) if new else []
        return len(pids) == WORKERS and {*pids} <= find_ready(old)

    run.wait_until(is_up, "a new arbiter with its workers")
    server.starter.name_descendant("new-arbiter", new[0])
    server.end()
