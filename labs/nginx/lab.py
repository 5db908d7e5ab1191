"""What nginx does with its port: three ways to share it, and two to renew what serves it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from signal import SIGCONT, SIGHUP, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH

from labs.engine.script import (
    HTTP_GET,
    Answers,
    Child,
    Finding,
    Host,
    Process,
    Program,
    Run,
    as_shares,
    as_wake_ups,
    ask_sleepers,
    between,
    by_chance,
    chi_square,
    exactly,
    lab,
    renew,
)

WORKERS = 4
SLEEPY = 24  # connections, each of which comes when all workers sleep
CONNECTIONS = 800  # one after the other
CLIENTS = 8
RELOADS = 3
SOME = 100  # requests before a reload, between two, and after
WAITING = 24  # connections in the queues of workers that are busy
USER = "www-data"
LOOPBACK = "127.0.0.1"
BIND = "bind() to"  # as a master says that it was refused
# What nginx takes of root: to give its workers another user, and to signal them afterwards.
CAPABILITIES = ("CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")

LISTENERS = "listeners on the port"
WAKE_UPS = "wake-ups"
IN_VAIN = "wake-ups of workers that got no connection"
LOST = "requests lost"
# By chance one of 10,000 runs is outside: chi-square of four shares, 3 degrees of freedom.
UNIFORM = between(0.003, 22.6, "as chi-square")

CONFIGURATION = """\
daemon {daemon};
env GLIBC_TUNABLES;
env OPENSSL_ia32cap;
{user}
worker_processes {workers};
pid /tmp/{name}.pid;
error_log stderr notice;
events {{ worker_connections 64; accept_mutex {accept_mutex}; }}
http {{
    access_log off;
    client_body_temp_path /tmp/{name}-body;
    proxy_temp_path /tmp/{name}-proxy;
    fastcgi_temp_path /tmp/{name}-fastcgi;
    uwsgi_temp_path /tmp/{name}-uwsgi;
    scgi_temp_path /tmp/{name}-scgi;
    server {{ listen {port}{reuseport}; return 200 $pid; }}
}}
"""


@dataclass(frozen=True)
class Plan:
    """What a configuration says: each worker answers with its pid."""

    name: str
    port: int
    user: str = USER
    workers: int = WORKERS
    accept_mutex: bool = False
    reuseport: bool = False
    daemon: bool = False

    @property
    def path(self) -> str:
        """Where the configuration is."""
        return f"/tmp/{self.name}.conf"  # noqa: S108 - a host has a /tmp of its own

    @property
    def text(self) -> str:
        """The configuration."""
        return CONFIGURATION.format(
            name=self.name,
            port=self.port,
            user=f"user {self.user};" if self.user else "",
            workers=self.workers,
            accept_mutex="on" if self.accept_mutex else "off",
            reuseport=" reuseport" if self.reuseport else "",
            daemon="on" if self.daemon else "off",
        )


@dataclass(frozen=True)
class Server:
    """An nginx that runs: its port, who started it, its master, and its first workers."""

    port: int
    starter: Process
    master: Program
    workers: list[Child]

    @property
    def address(self) -> tuple[str, int]:
        """Where its clients find it."""
        return self.starter.host.ipv4, self.port

    def count_listeners(self) -> int:
        """How many listeners there are on its port, its own and others."""
        return self.starter.host.count(self.port, "LISTEN")

    def reload(self) -> None:
        """SIGHUP: new workers for the old ones; returns when the old ones are gone."""
        before = self.master.children()
        self.master.kill(SIGHUP)
        self.wait_for_end_of(before)

    def reload_and_reopen(self) -> None:
        """SIGHUP and SIGUSR1: returns when the old workers are told to go, whatever they do.

        It does all of the first before the second. That a signal has come it says at once, for
        both: "signal 10 (SIGUSR1) received, reopening logs"; only that it does it comes later.
        """
        done = f" {self.master.pid}#{self.master.pid}: reopening logs"
        before = self.master.output.count(done)
        self.master.kill(SIGHUP)
        self.master.kill(SIGUSR1)
        self.master.wait_until(
            lambda: self.master.output.count(done) > before, "it has reopened its logs"
        )

    def wait_for_end_of(self, workers: Collection[int]) -> None:
        """Wait until these are gone, who are told to go only when there are new ones."""
        self.master.wait_until(
            lambda: {*self.master.children()}.isdisjoint(workers), "its workers are new"
        )

    def end(self) -> None:
        """SIGQUIT: it finishes what it is at, and ends."""
        self.master.kill(SIGQUIT)
        self.master.wait()


Starting = Callable[[], Server]  # the nginx of a plan, which starts when it is first asked for


@lab(
    "nginx",
    title="How nginx shares a port among workers, and what a reload does to those who wait",
    claim="nginx shares its port without a herd thanks to accept_mutex, and reloads without "
    "losing a request.",
)
def nginx(run: Run) -> None:
    """An nginx for each way to share a port; then their workers and programs are renewed."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    neighbour = server.process("neighbour", user="bob")
    shared = starting(server, Plan("shared", run.port(8080)))
    group = starting(server, Plan("group", run.port(8082), reuseport=True))
    share_one_listener(run, shared, client, neighbour)
    take_turns(run, server, neighbour)
    listen_apart(run, group, client, neighbour)
    ask_to_join(run, server, group)
    reload_under_load(run, client, shared, group)
    reload_with_fewer(run, client, group)
    upgrade(run, server, client)
    run.conclude(
        Finding.CONDITIONAL,
        "its listeners stay open. A connection woke no worker in vain, with accept_mutex or "
        "without it. Reloads and an upgrade, which pass the listeners on, lost nothing. A reload "
        "with fewer workers closed listeners of `reuseport`, and reset what waited in their "
        "queues.",
    )


# --- three ways to share ------------------------------------------------------------------


def share_one_listener(run: Run, shared: Starting, client: Process, neighbour: Process) -> None:
    """As nginx comes: one listener, made before the workers are."""
    with run.step(
        "root starts nginx; its {workers} workers are {user}'s. How many listeners?",
        expect=exactly(1, LISTENERS),
        see="fork",
        why="The master makes the listener and then forks: all workers hold the same socket, with "
        "one queue. Its owner is root, who made it. That the workers became another user "
        "afterwards is asked by nobody.",
        workers=WORKERS,
        user=USER,
    ) as step:
        step.measured(shared().count_listeners())

    with run.step(
        "{count} connections come, each when all workers sleep",
        expect=between(SLEEPY, 2 * SLEEPY + 2 * WORKERS, WAKE_UPS),
        see="herd",
        why="They wait with EPOLLEXCLUSIVE (since nginx 1.11.3 and Linux 4.5), and one is woken. "
        "It may sleep a second time, until the request is there.",
        count=SLEEPY,
    ) as step:
        woken, _ = wake(neighbour, shared())
        step.measured(sum(woken.values()), as_wake_ups(woken))

    with run.step(
        "Another {count} come. How often does a worker wake that gets none of them?",
        expect=exactly(0, IN_VAIN),
        see="herd",
        why="Whom the kernel wakes takes the connection, and the others hear nothing of it: no "
        "herd, and no accept_mutex.",
        count=SLEEPY,
    ) as step:
        _, in_vain = wake(neighbour, shared())
        step.measured(in_vain)

    with run.step(
        "{count} connections come one after the other. How many does the busiest worker get?",
        expect=between(CONNECTIONS // WORKERS, CONNECTIONS, "connections"),
        why="The kernel wakes the waiter that is first in its list, time and again: alone, one "
        "worker would get most. Since nginx 1.21.6 a worker goes to the end of that list every 16 "
        "connections, so that they share.",
        count=CONNECTIONS,
    ) as step:
        shares = ask_awake(client, shared())
        step.measured(max(shares.values()), as_shares(shares))


def take_turns(run: Run, host: Host, neighbour: Process) -> None:
    """accept_mutex on: who has the lock waits for connections."""
    plan = Plan("mutex", run.port(8081), accept_mutex=True)
    with run.step(
        "nginx with `accept_mutex on`: {count} connections, each when all workers sleep",
        expect=between(0, SLEEPY, IN_VAIN),
        why="Who has the lock waits for connections, and here keeps it. The others ask for it "
        "every half second: their clock wakes them, not the connection. It was made against a "
        "herd, and is off by default since 1.11.3.",
        count=SLEEPY,
    ) as step:
        mutex = start(prepare(host, plan), plan)
        woken, in_vain = wake(neighbour, mutex)
        step.measured(in_vain, as_wake_ups(woken))
        mutex.end()


def listen_apart(run: Run, group: Starting, client: Process, neighbour: Process) -> None:
    """`listen ... reuseport`: a listener for each worker."""
    with run.step(
        "nginx with `listen ... reuseport` and {workers} workers. How many listeners?",
        expect=exactly(WORKERS, LISTENERS),
        see="reuseport",
        why="The master makes one for each worker, before it forks. They may be a group because "
        "one user made them all, root: the workers only inherit.",
        workers=WORKERS,
    ) as step:
        step.measured(group().count_listeners())

    with run.step(
        "{count} connections come, each when all workers sleep",
        expect=exactly(0, IN_VAIN),
        why="The hash chooses a queue, and at each queue one worker waits.",
        count=SLEEPY,
    ) as step:
        woken, in_vain = wake(neighbour, group())
        step.measured(in_vain, as_wake_ups(woken))

    with run.step(
        "{count} connections come one after the other",
        expect=UNIFORM,
        see="balance",
        why="Shares as by chance, whoever is busy: the hash does not know. More uneven than that, "
        "or as even as by turns, they come by chance in one of 10,000 runs.",
        count=CONNECTIONS,
    ) as step:
        shares = ask_awake(client, group())
        step.measured(chi_square(shares), by_chance(shares))


# --- others on the same port --------------------------------------------------------------


def ask_to_join(run: Run, host: Host, group: Starting) -> None:
    """Another nginx wants the port: one of the workers' user, and one of root."""
    with run.step(
        "{user}, the workers' user, starts a second nginx with `reuseport` on the same port",
        expect=exactly(0, "listeners of its own"),
        see="euid",
        why="Its socket would be {user}'s, those of the group are root's: EADDRINUSE "
        "(inet_csk_bind_conflict()). Who serves the group is not asked, only who made it.",
        user=USER,
    ) as step:
        plan = Plan("second", group().port, user="", workers=1, reuseport=True)
        second = host.process(plan.name, user=USER, program="nginx")
        second.write_text(plan.path, plan.text)
        before = {*host.queues(plan.port)}
        step.measured(len(listen_beside(second, plan) - before))

    with run.step(
        "root starts another one. How many listeners are there now?",
        expect=exactly(WORKERS + 1, LISTENERS),
        see="euid",
        why="One owner, one group. Neither nginx notices, and each gets a part of the clients: a "
        "server that was started twice goes unseen so.",
    ) as step:
        plan = Plan("third", group().port, workers=1, reuseport=True)
        step.measured(len(listen_beside(prepare(host, plan), plan)))


# --- renewed under load -------------------------------------------------------------------


def reload_under_load(run: Run, client: Process, shared: Starting, group: Starting) -> None:
    """SIGHUP, with as many workers as before."""
    with run.step(
        "Under load nginx reloads {count} times",
        expect=exactly(0, LOST),
        why="The master keeps the listener and forks new workers. The old ones stop to accept, "
        "finish what they have, and end. Who waits, waits in the same queue.",
        count=RELOADS,
    ) as step:
        answers = renew(
            client, shared().address, shared().reload, RELOADS, clients=CLIENTS, some=SOME
        )
        step.measured(answers.lost, answers.parts)
    with run.step(
        "The nginx with `reuseport` reloads {count} times",
        expect=exactly(0, LOST),
        why="There are as many workers as before, and the master has kept a listener for each.",
        count=RELOADS,
    ) as step:
        answers = renew(
            client, group().address, group().reload, RELOADS, clients=CLIENTS, some=SOME
        )
        step.measured(answers.lost, answers.parts)


def reload_with_fewer(run: Run, client: Process, group: Starting) -> None:
    """Connections wait in the queues of all workers when it reloads."""
    with run.step(
        "All workers with `reuseport` are busy, {waiting} connections wait, and it reloads",
        expect=exactly(0, LOST),
        why="What is busy is stopped here by SIGSTOP. The old workers close their copies of the "
        "listeners, the master has others: the queues stay, for the new workers.",
        waiting=WAITING,
    ) as step:
        answers = reload_while_busy(run, client, group())
        step.measured(answers.lost, answers.parts)

    with run.step(
        "The same, and its configuration asks for one worker now",
        expect=between(1, WAITING, LOST),
        why="One worker, one listener: the master closes the others, and so does each old worker, "
        "after the one connection that it accepts first. close() of the last copy resets what "
        "waits (inet_csk_listen_stop()).",
    ) as step:
        plan = Plan("group", group().port, workers=1, reuseport=True)
        group().starter.write_text(plan.path, plan.text)
        answers = reload_while_busy(run, client, group())
        step.measured(answers.lost, answers.parts)


def upgrade(run: Run, host: Host, client: Process) -> None:
    """Another program in the place of this one: USR2, WINCH, QUIT."""
    plan = Plan("upgraded", run.port(8083), daemon=True)
    with run.step(
        "Under load the program itself is replaced: USR2, WINCH, QUIT",
        expect=exactly(0, LOST),
        see="passing",
        why="The old master forks a child that executes the new program: it inherits the listener "
        "and finds its descriptor in the variable NGINX. Both serve; then the old workers end, and "
        "the old master. Only a daemon does so: a master that still has its first parent takes "
        "itself for the new one, and ignores USR2.",
    ) as replaced:
        server = prepare(host, plan)
        spawn(server, plan).succeed()
        old = find_master(run, server, plan.port)
        listeners = {*host.queues(plan.port)}
        address, replacing = (host.ipv4, plan.port), partial(replace_program, run, server, old)
        answers = renew(client, address, replacing, 1, clients=CLIENTS, some=SOME)
        replaced.measured(answers.lost, answers.parts)

    with run.step(
        "Is its listener another one?",
        expect=exactly(0, "listeners that came or went"),
        why="The same inode, with the same owner. Nothing was bound, so no rule was asked.",
    ) as step:
        step.needs(replaced)
        server.request((LOOPBACK, plan.port), words=HTTP_GET)
        step.measured(len({*host.queues(plan.port)} ^ listeners))


# --- what the steps are made of -----------------------------------------------------------


def starting(host: Host, plan: Plan) -> Starting:
    """An nginx to be asked for in steps: where there is none, each is skipped for that reason."""
    starter = cache(lambda: prepare(host, plan))
    return cache(lambda: start(starter(), plan))


def prepare(host: Host, plan: Plan) -> Process:
    """The process of root's that starts an nginx; skips the step where there is none."""
    starter = host.process(plan.name, user="root", capabilities=CAPABILITIES, program="nginx")
    starter.write_text(plan.path, plan.text)
    return starter


def start(starter: Process, plan: Plan) -> Server:
    """Start nginx and wait for its workers, which it forks when it listens."""
    master = spawn(starter, plan)
    workers = master.name_children(f"{plan.name}-worker", plan.workers, user=USER)
    return Server(plan.port, starter, master, workers)


def listen_beside(starter: Process, plan: Plan) -> set[int]:
    """Start nginx on a port that another has: the listeners that are there then; and end it."""
    master = spawn(starter, plan)
    # Its workers come when it listens. One that may not tries five times, and ends by itself.
    master.wait_until(lambda: BIND in master.output or bool(master.children()), "its bind()")
    listeners = {*starter.host.queues(plan.port)}
    if BIND in master.output:
        master.quote(BIND)
    master.kill(SIGTERM)  # it handles signals once it has bound: until then SIGQUIT dumps its core
    master.wait()
    return listeners


def spawn(starter: Process, plan: Plan) -> Program:
    """Start nginx with the configuration of this plan, which is written already."""
    return starter.spawn(f"nginx-{plan.name}", "nginx", "-e", "stderr", "-c", plan.path)


def find_master(run: Run, starter: Process, port: int) -> Child:
    """The master of a daemon: who holds the listener and is root still."""
    masters: list[int] = []

    def is_there() -> bool:
        holders = starter.host.holders(port)
        masters[:] = [row.pid for row in holders if row.credentials.effective == 0]
        return len(masters) == 1 and len(starter.list_children(Child("", masters[0]))) == WORKERS

    run.wait_for_program(is_there, "a master with its workers")
    return starter.name_descendant("old-master", masters[0])


def replace_program(run: Run, starter: Process, old: Child) -> None:
    """USR2, WINCH and QUIT, each when what the one before began is done."""
    workers = {*starter.list_children(old)}
    starter.send_signal(old, SIGUSR2)
    new: list[int] = []

    def is_up() -> bool:
        new[:] = {*starter.list_children(old)} - workers
        return bool(new) and len(starter.list_children(Child("", new[0]))) == WORKERS

    run.wait_for_program(is_up, "a new master with its workers")
    starter.name_descendant("new-master", new[0])
    starter.send_signal(old, SIGWINCH)
    run.wait_for_program(lambda: starter.list_children(old) == new, "the old workers are gone")
    starter.send_signal(old, SIGQUIT)
    run.wait_for_program(lambda: not starter.list_children(old), "the old master is gone")


def wake(client: Process, server: Server) -> tuple[dict[str, float], int]:
    """Connect when all workers sleep: who woke how often, and how often in vain."""
    return ask_sleepers(client, server.port, server.workers, SLEEPY)


def ask_awake(client: Process, server: Server) -> dict[str, float]:
    """Connect CONNECTIONS times, one after the other: how many each worker answered."""
    answers = client.request(server.address, CONNECTIONS, words=HTTP_GET)
    return {worker.name: answers.by.get(str(worker.pid), 0) for worker in server.workers}


def reload_while_busy(run: Run, client: Process, server: Server) -> Answers:
    """Reload while every worker is stopped, and connections wait in all queues."""
    old = server.master.children()
    for pid in old:
        server.starter.send_signal(Child("", pid), SIGSTOP)
    client.load(server.address, WAITING, clients=WAITING, words=HTTP_GET)
    run.wait_for_queues(server.starter.host, server.port, WAITING)
    server.reload_and_reopen()
    for pid in old:
        server.starter.send_signal(Child("", pid), SIGCONT)
    answers = client.stop_load(after=WAITING)
    server.wait_for_end_of(old)
    return answers
