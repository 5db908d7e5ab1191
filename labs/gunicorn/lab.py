"""What gunicorn does with its port: one listener for all workers, with --reuse-port too."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
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
    as_wake_ups,
    ask_sleepers,
    between,
    exactly,
    lab,
    renew,
)

WORKERS = 4
SLEEPY = 24  # connections, each of which comes when all workers sleep
CLIENTS = 2  # few: they take processors from the gunicorn that is to start beside them
RELOADS = 3
SOME = 100  # requests before a reload, between two, after, and in a gap
MOST = 30_000
WAITING = 24  # connections in the queues of workers that are busy

BOUND_APART = 24  # the first version whose --reuse-port is otherwise
STARTING = "Starting gunicorn "  # as it says before its version
LISTENING = "Listening at"
LISTENERS = "listeners on the port"
IN_USE = "Connection in use"  # as gunicorn says EADDRINUSE
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
    workers: int = WORKERS
    reuse_port: bool = False

    @property
    def module(self) -> str:
        """The application's module: one for each, as a user cannot write another's file."""
        return f"application_{self.name}"

    @property
    def arguments(self) -> list[str]:
        """Its command line."""
        return [
            *("--bind", f"0.0.0.0:{self.port}", "--workers", str(self.workers)),
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

    @property
    def version(self) -> int:
        """The first number of its version, as it says it."""
        return int(self.arbiter.output.partition(STARTING)[2].partition(".")[0])

    def count_listeners(self) -> int:
        """How many listeners there are on its port, its own and others."""
        return self.host.count(self.port, "LISTEN")

    def reload(self) -> None:
        """SIGHUP: new workers for the old ones; returns when the old ones are gone."""
        before = {*self.arbiter.children()}
        self.arbiter.kill(SIGHUP)
        self.arbiter.wait_until(lambda: self.is_renewed(before), "its workers are new")

    def is_renewed(self, before: set[int]) -> bool:
        """Whether all workers are there, answer, and are none of those from before."""
        now = {*self.arbiter.children()}
        return (
            len(now) == len(self.workers) and not now & before and now <= find_ready(self.arbiter)
        )

    def end(self) -> None:
        """SIGTERM: its workers finish what they are at, and it ends."""
        self.arbiter.kill(SIGTERM)
        self.arbiter.succeed()


Starting = Callable[[], Server]  # the gunicorn of a plan, which starts when it is first asked for


@lab(
    "gunicorn",
    title="How gunicorn shares its port among workers, and which restarts lose requests",
    claim="With --reuse-port each worker of gunicorn has a queue of its own: no herd, and "
    "restarts that lose nothing.",
)
def gunicorn(run: Run) -> None:
    """A gunicorn is looked at and renewed; then one with the option, and others join it."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    neighbour = server.process("neighbour", user="bob")
    shared = starting(server, Plan("shared", run.port(8080)))
    first = starting(server, Plan("first", run.port(8081), reuse_port=True))
    # With as few workers as will do, it fits beside the first in a small machine's memory.
    second = starting(server, Plan("second", run.port(8081), workers=2, reuse_port=True))
    share_one_listener(run, shared, neighbour)
    curl = ask_with_curl(run, elsewhere, shared)
    reload_under_load(run, client, shared)
    stop_then_start(run, client, shared)
    one = set_reuse_port(run, first, neighbour)
    ask_to_join(run, server, one, first, second)
    change_over(run, client, one, first, second)
    upgrade(run, client, one, second)
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


def share_one_listener(run: Run, shared: Starting, neighbour: Process) -> None:
    """As it comes: the workers inherit the arbiter's listener."""
    with run.step(
        "gunicorn with {workers} sync workers. How many processes hold its one listener?",
        expect=exactly(WORKERS + 1, "processes that hold the listener"),
        see="fork",
        why="The arbiter binds and listens, then forks: the workers inherit its socket, and the "
        "arbiter, which never accepts, keeps it for those to come. It is the pattern of the lab "
        "fork.",
        workers=WORKERS,
    ) as step:
        (_,) = shared().host.queues(shared().port)
        step.measured(len(shared().host.holders(shared().port)))

    with run.step(
        "{count} connections come, each when all workers sleep",
        expect=between(HERD, HERD + SPARE, IN_VAIN),
        see="herd",
        why="A sync worker waits in select(), for the listener and a pipe of its own, and select() "
        "does not wait exclusively (__pollwait()). A connection wakes all: one accepts, and "
        "{others} find nothing. Here is the herd.",
        count=SLEEPY,
        others=WORKERS - 1,
    ) as step:
        woken, in_vain = wake(neighbour, shared())
        step.measured(in_vain, as_wake_ups(woken))


def ask_with_curl(run: Run, elsewhere: Host, shared: Starting) -> Step:
    """A real client; returns the step, which takes a program more."""
    with run.step(
        "curl asks from another host. Who answers?",
        expect=exactly(1, "answers by one of the workers"),
        why="The application answers with its pid, and that is a worker's: of those who woke, the "
        "one whose accept() came first.",
    ) as step:
        address, port = shared().address
        # In containers curl is where gunicorn is.
        caller = elsewhere.process("caller", user="bob", program="gunicorn")
        try:
            curl = caller.spawn("curl", "curl", "--silent", f"http://{address}:{port}/")
        except CallError:
            step.skip("there is no curl that a client could execute")
        curl.succeed()
        answer = curl.output.strip()
        curl.quote(answer)
        step.measured(sum(answer == str(worker.pid) for worker in shared().workers))
    return step


# --- renewed ------------------------------------------------------------------------------


def reload_under_load(run: Run, client: Process, shared: Starting) -> None:
    """SIGHUP: new workers at the same listener."""
    with run.step(
        "Under load gunicorn reloads {count} times, by HUP",
        expect=exactly(0, LOST),
        why="The arbiter keeps the listener and forks new workers, which load the application "
        "anew; then it ends the old ones by TERM. They finish what they have accepted. What waits "
        "stays in the queue, for the new ones.",
        count=RELOADS,
    ) as step:
        answers = renew(
            client, shared().address, shared().reload, RELOADS, clients=CLIENTS, some=SOME
        )
        step.measured(answers.lost, answers.parts)

    with run.step(
        "It reloads when a client has sent half of a request; then comes the rest",
        expect=exactly(1, "answers by an old worker"),
        why="The worker that has accepted the connection waits for this client alone, in recv(), "
        "and TERM lets it finish. It serves nobody else in the meantime, and the arbiter kills it "
        "if this takes longer than --timeout, 30 seconds.",
    ) as step:
        step.measured(reload_beside_slow_client(run, client, shared()))


def stop_then_start(run: Run, client: Process, shared: Starting) -> None:
    """A restart without a handover."""
    with run.step(
        "Under load gunicorn is ended by TERM, and started again",
        expect=between(SOME, MOST, LOST),
        see="restart",
        why="What waits is reset, and whoever comes next is refused, until Python, gunicorn and "
        "the application are loaded again. gunicorn sets SO_REUSEADDR, so TIME_WAIT does not stop "
        "its bind(); the gap stays.",
    ) as step:
        server = shared()
        client.load(server.address, MOST, clients=CLIENTS, words=HTTP_GET)
        client.wait_for_requests(SOME)
        server.end()
        client.wait_for_requests(SOME)
        plan = Plan("again", server.port)
        again = start(prepare(server.host, plan), plan)
        answers = client.stop_load(after=SOME)
        step.measured(answers.lost, answers.parts)
        again.end()


# --- with --reuse-port --------------------------------------------------------------------


def set_reuse_port(run: Run, first: Starting, neighbour: Process) -> Step:
    """--reuse-port: an option of the one listener; returns the step that shows that it is one."""
    with run.step(
        "gunicorn with `--reuse-port` and {workers} workers. How many listeners?",
        expect=exactly(1, LISTENERS),
        why="The arbiter sets SO_REUSEPORT on its socket, before bind(), and forks as ever. For a "
        "group each worker would have to bind a socket of its own.",
        workers=WORKERS,
    ) as one:
        if first().version >= BOUND_APART:
            one.skip("the workers of this gunicorn bind sockets of their own, since version 24")
        one.measured(first().count_listeners())

    with run.step(
        "Again {count} connections come, each when all workers sleep",
        expect=between(HERD, HERD + SPARE, IN_VAIN),
        see="herd",
        why="One listener, one queue, and all wait at it: the option has changed nothing.",
        count=SLEEPY,
    ) as step:
        step.needs(one)
        woken, in_vain = wake(neighbour, first())
        step.measured(in_vain, as_wake_ups(woken))
    return one


def ask_to_join(run: Run, host: Host, one: Step, first: Starting, second: Starting) -> None:
    """What the option does: another gunicorn may join, of the same user, and no other."""
    with run.step(
        "Carol starts another one with `--reuse-port` on the port of Alice's",
        expect=exactly(0, "listeners of hers"),
        see="euid",
        why="Her socket would join Alice's group: EADDRINUSE (inet_csk_bind_conflict()). gunicorn "
        "tries five times, a second apart, and gives up.",
    ) as step:
        step.needs(one)
        before = {*host.queues(first().port)}
        plan = Plan("stranger", first().port, user="carol", reuse_port=True)
        arbiter = spawn(prepare(host, plan), plan)
        new: set[int] = set()

        def is_answered() -> bool:
            new.update({*host.queues(plan.port)} - before)
            return bool(new) or IN_USE in arbiter.output

        arbiter.wait_until(is_answered, "its bind()")
        step.measured(len(new))
        if not new:
            arbiter.quote(IN_USE)
        # While it waits to try again it heeds no other signal.
        arbiter.kill(SIGTERM if new else SIGKILL)
        arbiter.wait()

    with run.step(
        "Alice starts another one. How many listeners are there now?",
        expect=exactly(2, LISTENERS),
        see="euid",
        why="One user, and both sockets have the option: now there are two queues, one for each "
        "gunicorn. Neither of them notices that it is not alone.",
    ) as step:
        step.needs(one)
        step.measured(second().count_listeners())


def change_over(run: Run, client: Process, one: Step, first: Starting, second: Starting) -> None:
    """The first ends while connections wait in its queue."""
    with run.step(
        "All workers of both are busy, {waiting} connections wait, and the first one ends",
        expect=between(1, WAITING, LOST),
        see="restart",
        why="What is busy is stopped here by SIGSTOP. The hash has spread what waits over two "
        "queues. Told to end, a worker finishes what it has accepted and accepts no more; the last "
        "close() resets the rest (inet_csk_listen_stop()).",
        waiting=WAITING,
    ) as step:
        step.needs(one)
        answers = end_while_busy(run, client, first(), second())
        step.measured(answers.lost, answers.parts)


def upgrade(run: Run, client: Process, one: Step, second: Starting) -> None:
    """USR2: another program with the same listener."""
    with run.step(
        "Under load the other one's program is replaced: USR2, then TERM for the old arbiter",
        expect=exactly(0, LOST),
        see="passing",
        why="The arbiter forks a child that executes gunicorn anew: it inherits the listener, and "
        "finds its descriptor in the variable GUNICORN_FD. Nothing is bound. Both serve, and what "
        "the old one closes, the new one still holds.",
    ) as step:
        step.needs(one)
        server = second()
        answers = renew(
            client,
            server.address,
            partial(replace_program, server),
            1,
            clients=CLIENTS,
            some=SOME,
        )
        step.measured(answers.lost, answers.parts)


# --- what the steps are made of -----------------------------------------------------------


def starting(host: Host, plan: Plan) -> Starting:
    """A gunicorn to be asked for in steps: where there is none, each is skipped for that reason."""
    starter = cache(lambda: prepare(host, plan))
    return cache(lambda: start(starter(), plan))


def prepare(host: Host, plan: Plan) -> Process:
    """The process that starts a gunicorn; skips the step where there is none."""
    starter = host.process(plan.name, user=plan.user, program="gunicorn")
    starter.write_text(f"/tmp/{plan.module}.py", APPLICATION)  # noqa: S108 - a host's own
    return starter


def start(starter: Process, plan: Plan) -> Server:
    """Start gunicorn, and wait until all of its workers have loaded the application."""
    arbiter = spawn(starter, plan)
    arbiter.wait_until(lambda: LISTENING in arbiter.output, "it listens")
    workers = arbiter.name_children(f"{plan.name}-worker", plan.workers, user=plan.user)
    pids = {worker.pid for worker in workers}
    arbiter.wait_until(lambda: pids <= find_ready(arbiter), "its workers are ready")
    return Server(plan.port, starter, arbiter, workers)


def spawn(starter: Process, plan: Plan) -> Program:
    """Start gunicorn with the application of this plan, which is written already."""
    return starter.spawn(f"gunicorn-{plan.name}", "gunicorn", *plan.arguments)


def find_ready(arbiter: Program) -> set[int]:
    """The pids of workers that have loaded the application, as they have said."""
    lines = arbiter.output.splitlines()
    return {int(line.split()[0]) for line in lines if line.endswith(READY)}


def wake(client: Process, server: Server) -> tuple[dict[str, float], int]:
    """Connect when all workers sleep: who woke how often, and how often in vain.

    A worker wakes by its clock too, each 15 seconds (half of --timeout): later than this is over.
    """
    return ask_sleepers(client, server.port, server.workers, SLEEPY)


def end_while_busy(run: Run, client: Process, first: Server, second: Server) -> Answers:
    """End the first while the workers of both are stopped, and connections wait in both queues."""
    host = first.host
    signal_workers(first, SIGSTOP)
    signal_workers(second, SIGSTOP)
    client.load(first.address, WAITING, clients=WAITING, words=HTTP_GET)
    run.wait_for_queues(host, first.port, WAITING)
    first.arbiter.kill(SIGTERM)
    # It closes its copy of the listener, and then tells its workers.
    run.wait_for_program(
        lambda: all(first.starter.has_pending(worker, SIGTERM) for worker in first.workers),
        "the arbiter has told its workers",
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
    run.wait_for_program(
        lambda: any(row.state == "ESTABLISHED" and row.inode for row in rows(server.port)),
        "a worker has accepted it",
    )
    server.arbiter.kill(SIGHUP)

    def no_other_is_left() -> bool:
        now = {*server.arbiter.children()}
        new = now - before
        return len(now & before) <= 1 and len(new) == WORKERS and new <= find_ready(server.arbiter)

    server.arbiter.wait_until(no_other_is_left, "its other workers are new")
    slow.send(HTTP_GET[10:])
    answer = ""
    while data := slow.recv(4096):
        answer += data
    slow.close()
    server.arbiter.wait_until(lambda: server.is_renewed(before), "its workers are new")
    return sum(answer.endswith(f"\r\n\r\n{pid}") for pid in before)


def replace_program(server: Server) -> None:
    """USR2, and TERM for the old arbiter once the new one's workers answer."""
    old = server.arbiter
    workers, ready = {*old.children()}, find_ready(old)
    listening = old.output.count(LISTENING)
    old.kill(SIGUSR2)
    old.wait_until(lambda: old.output.count(LISTENING) > listening, "a new arbiter")
    old.wait_until(
        lambda: len(find_ready(old) - ready) == len(server.workers), "a new arbiter's workers"
    )
    (new,) = {*old.children()} - workers
    server.starter.name_descendant("new-arbiter", new)
    server.end()
