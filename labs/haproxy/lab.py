"""What a reload of HAProxy does with its listener: a second one beside it, or the same again."""

from dataclasses import dataclass, replace
from signal import SIGUSR2

from labs.engine.script import (
    HTTP_GET,
    Answers,
    Finding,
    Host,
    Process,
    Program,
    Run,
    Socket,
    Step,
    exactly,
    lab,
    renew,
)

WAITING = 12  # connections that wait while all of maxconn is taken
CLIENTS = 8
RELOADS = 3
SOME = 100  # requests before a reload, between two, and after
ALONE = 1  # maxconn: the others wait in the accept queue
ENOUGH = 64

LISTENERS = "listeners on the port"
CHANGED = "listeners that came or went"
LOST = "requests lost"
RESET = "requests reset"

CONFIGURATION = """\
global
    {master}
    nbthread 1
    maxconn 200
    stats socket {socket} mode {mode} level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend web
    bind 0.0.0.0:{port}
    maxconn {maxconn}
    backlog 128
    http-request return status 200 content-type text/plain lf-string %pid
"""


@dataclass(frozen=True)
class Plan:
    """What a configuration says: each process answers with its pid."""

    name: str
    port: int
    maxconn: int = ENOUGH
    is_open: bool = False  # its socket for commands, to all users
    has_master: bool = False

    @property
    def path(self) -> str:
        """Where the configuration is."""
        return f"/tmp/{self.name}.cfg"  # noqa: S108 - a host has a /tmp of its own

    @property
    def socket(self) -> str:
        """The UNIX socket that it takes commands on."""
        return f"/tmp/{self.name}.sock"  # noqa: S108

    @property
    def text(self) -> str:
        """The configuration."""
        return CONFIGURATION.format(
            master="master-worker" if self.has_master else "",
            socket=self.socket,
            mode="666" if self.is_open else "600",
            port=self.port,
            maxconn=self.maxconn,
        )


@dataclass(frozen=True)
class Server:
    """An HAProxy that runs: its plan, who started it, and the program."""

    plan: Plan
    starter: Process
    program: Program

    @property
    def address(self) -> tuple[str, int]:
        """Where its clients find it."""
        return self.starter.host.ipv4, self.plan.port

    def reload(self) -> None:
        """SIGUSR2 to the master: another worker; returns when the old one is gone."""
        (old,) = self.program.children()
        self.program.kill(SIGUSR2)
        # Before it says so, a master executes itself anew and would not hear the next signal.
        gone = f"Former worker ({old}) exited"
        self.program.wait_until(lambda: gone in self.program.output, "the old worker is gone")


@lab(
    "haproxy",
    title="A reload of HAProxy: another listener by SO_REUSEPORT, or the old one passed on",
    claim="With SO_REUSEPORT the new HAProxy binds beside the old one, so a reload loses nothing.",
)
def haproxy(run: Run) -> None:
    """HAProxy is reloaded in each way, idle and while connections wait."""
    server, elsewhere = run.host("server"), run.host("elsewhere")
    client = elsewhere.process("client", user="bob")
    beside(run, server, client)
    pass_over(run, server, client)
    migrated = migrate(run, elsewhere)
    ask_as_another(run, server)
    reload_under_load(run, server, client)
    run.conclude(
        Finding.REFUTED,
        "the old one's listener has a queue of its own: all {waiting} connections that waited "
        "there were reset. Passed over by `-x`, as the master does by itself, the listener was "
        "the same one, and nothing was lost.",
        aside=[migrated],
        waiting=WAITING,
    )


def beside(run: Run, host: Host, client: Process) -> None:
    """-sf alone: the new one binds, and tells the old one to finish."""
    plan = Plan("beside", run.port(8080), maxconn=ALONE)
    with run.step(
        "HAProxy serves {maxconn} connection at a time; {waiting} others wait. How many listeners?",
        expect=exactly(1, LISTENERS),
        why="When maxconn is reached it stops to accept. The kernel completes handshakes all the "
        "same, and the connections wait in the accept queue of its one listener.",
        maxconn=ALONE,
        waiting=WAITING,
    ) as step:
        old = start(host, plan)
        slot = fill(run, client, old)
        step.measured(host.count(plan.port, "LISTEN"))

    with run.step(
        "It is reloaded by `-sf`: a new one binds with SO_REUSEPORT, the old one closes",
        expect=exactly(WAITING, RESET),
        soon=True,
        see="restart",
        why="The new listener has an empty queue. Those who waited were in the queue of the old "
        "one, and close() resets them (inet_csk_listen_stop()). What was accepted is finished.",
    ) as step:
        start_next(run, old)
        answers = free(client, slot)
        step.measured(answers.reset, answers.parts)
        old.program.wait()


def pass_over(run: Run, host: Host, client: Process) -> None:
    """-sf and -x: the new one asks the old one for its listener."""
    plan = Plan("passed", run.port(8081), maxconn=ALONE)
    with run.step(
        "Again {waiting} wait, and it is reloaded by `-sf` and `-x`",
        expect=exactly(0, LOST),
        see="passing",
        why="The new one connects to the old one's command socket (`expose-fd listeners`) and gets "
        "the listener by SCM_RIGHTS. The old one closes its copy; the queue stays, and the new "
        "one accepts from it.",
        waiting=WAITING,
    ) as step:
        old = start(host, plan)
        slot = fill(run, client, old)
        before = {*host.queues(plan.port)}
        start_next(run, old, passed=True)
        answers = free(client, slot)
        step.measured(answers.lost, answers.parts)

    with run.step(
        "Is its listener another one?",
        expect=exactly(0, CHANGED),
        why="The inode is the same: nothing was bound, and no rule was asked.",
    ) as step:
        host.show()
        step.measured(len({*host.queues(plan.port)} ^ before))
        old.program.wait()


def migrate(run: Run, elsewhere: Host) -> Step:
    """-sf alone again, where the kernel moves what waits; returns the step."""
    with run.step(
        "By `-sf` alone, on a host with tcp_migrate_req",
        expect=exactly(0, LOST),
        see="restart",
        why="With this sysctl (since 5.14) what waits at a listener that closes moves to another "
        "of its group (reuseport_migrate_sock()). HAProxy knows nothing of it.",
    ) as step:
        if run.kernel < (5, 14):
            step.skip("this kernel does not move what waits", since="5.14")
        host = run.host("migrating", tcp_migrate_req=True)
        client = elsewhere.process("client-2", user="bob")
        old = start(host, Plan("migrated", run.port(8082), maxconn=ALONE))
        slot = fill(run, client, old)
        start_next(run, old)
        answers = free(client, slot)
        step.measured(answers.lost, answers.parts)
        old.program.wait()
    return step


def ask_as_another(run: Run, host: Host) -> None:
    """Another user's HAProxy: it may not bind, and may be given the listener."""
    plan = Plan("open", run.port(8083), is_open=True)
    bobs = replace(plan, name="bobs")
    with run.step(
        "An HAProxy of alice's listens, and one of bob's is to share its port",
        expect=exactly(0, "listeners of bob's"),
        see="euid",
        why="HAProxy sets SO_REUSEPORT on every listener, but the owners differ: EADDRINUSE "
        "(inet_csk_bind_conflict()). It tries for a moment, says so, and ends.",
    ) as step:
        starter = host.process("init", user="root", capabilities=["CAP_SETUID"], program="haproxy")
        first = spawn_as("alice", starter, "haproxy-alice", plan)
        first.wait_until(lambda: holds(first, host, plan.port), "it has a listener")
        second = spawn_as("bob", starter, "haproxy-bob", bobs)
        run.wait_for_program(
            lambda: second.status is not None or holds(second, host, plan.port), "its bind()"
        )
        if second.status is not None:
            second.quote("cannot bind")
        step.measured(sum(row.uid == starter.uid("bob") for row in host.sockets(plan.port)))

    with run.step(
        "alice lets bob use her command socket, and his starts with `-x`. How many listeners?",
        expect=exactly(1, LISTENERS),
        see="passing",
        why="It gets alice's own listener, which stays hers, and both accept from its queue. The "
        "uid rule is one of bind(); a socket that is passed is not asked again.",
    ) as step:
        third = spawn_as("bob", starter, "haproxy-bob-2", bobs, "-x", plan.socket)
        third.wait_until(lambda: holds(third, host, plan.port), "it has the listener")
        step.measured(host.count(plan.port, "LISTEN"))


def reload_under_load(run: Run, host: Host, client: Process) -> None:
    """The master does it by itself."""
    plan = Plan("master", run.port(8084), has_master=True)
    with run.step(
        "Under load an HAProxy with a master is reloaded {count} times",
        expect=exactly(0, LOST),
        why="In master-worker mode the master starts the new worker with `-x` itself, over a pair "
        "of sockets that they inherit, and the old one ends when its connections have.",
        count=RELOADS,
    ) as step:
        server = start(host, plan)
        answers = renew(client, server.address, server.reload, RELOADS, clients=CLIENTS, some=SOME)
        step.measured(answers.lost, answers.parts)


# --- what the steps are made of -----------------------------------------------------------


def start(host: Host, plan: Plan) -> Server:
    """Alice starts HAProxy, and it listens."""
    starter = host.process(plan.name, user="alice", program="haproxy")
    program = spawn(starter, f"haproxy-{plan.name}", plan)
    program.wait_until(lambda: holds(program, host, plan.port), "it listens")
    if plan.has_master:
        # A master executes itself anew, to wait, and only then hears the signal.
        program.wait_until(lambda: starter.catches(program, SIGUSR2), "its master waits")
    return Server(plan, starter, program)


def start_next(run: Run, old: Server, *, passed: bool = False) -> Server:
    """Its successor, which tells it to finish; returns when that one's listeners are closed."""
    plan, host = old.plan, old.starter.host
    options = ["-sf", str(old.program.pid), *(["-x", plan.socket] if passed else [])]
    program = spawn(old.starter, f"{old.program.name}-next", plan, *options)
    program.wait_until(lambda: holds(program, host, plan.port), "it has a listener")
    run.wait_for_program(
        lambda: not holds(old.program, host, plan.port), "the old one has closed its"
    )
    return Server(plan, old.starter, program)


def spawn_as(user: str, starter: Process, name: str, plan: Plan, *options: str) -> Program:
    """Let root start HAProxy as a user, as an init system does."""
    starter.setresuid(user, user, "root")
    program = spawn(starter, name, plan, *options)
    starter.seteuid("root")
    return program


def spawn(starter: Process, name: str, plan: Plan, *options: str) -> Program:
    """Start HAProxy in the foreground with this configuration and these options."""
    starter.write_text(plan.path, plan.text)
    return starter.spawn(name, "haproxy", "-db", "-f", plan.path, *options)


def holds(program: Program, host: Host, port: int) -> bool:
    """Whether it, or a worker of its, has a listener of the port."""
    pids = {program.pid, *program.children()}
    return any(row.pid in pids for row in host.holders(port))


def fill(run: Run, client: Process, server: Server) -> Socket:
    """Take all of maxconn by half a request, and let others wait; returns who took it."""
    slot = client.connect(server.address)
    slot.send("GET / HTTP/1.0\r\n")
    host, port = server.starter.host, server.plan.port
    run.wait_for_program(lambda: sum(host.queues(port).values()) == 0, "it has accepted one")
    client.load(server.address, WAITING, clients=WAITING, words=HTTP_GET)
    run.wait_for_queues(host, port, WAITING)
    return slot


def free(client: Process, slot: Socket) -> Answers:
    """Finish that request, and see what became of the others."""
    slot.send("\r\n")
    while slot.recv(4096):
        pass
    slot.close()
    return client.stop_load(after=WAITING)
