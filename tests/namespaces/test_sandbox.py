"""A trainee's program is strange code: what it may not do, and what it is bounded by."""

import os
import re
from pathlib import Path

import pytest

from labs.engine.agent import CHANNEL_DESCRIPTOR
from labs.engine.challenge import Trial, challenge, exactly
from labs.engine.errors import ExitStatus
from labs.engine.submission import File, Submission
from tests.attempts import attempt, attempt_with, listening, probe
from tests.support import ROOT

pytestmark = pytest.mark.namespaces

LISTENS = """
    import socket, sys
    listener = socket.create_server(("", int(sys.argv[1])))
"""
# Each action's errno by name, or "done", as JSON.
TRY = """
    import ctypes, errno, json, os, socket, sys
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "")
        return result

    def tried(action):
        try:
            action()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "done"

    def write(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))

    def connect(address):
        socket.create_connection(address, 1)
"""


def try_out(
    actions: dict[str, str], user: str = "alice", capabilities: tuple[str, ...] = ()
) -> dict[str, object]:
    """What came of each action, an expression in a program."""
    lines = [f"    found[{name!r}] = tried(lambda: {action})" for name, action in actions.items()]
    source = "\n".join([TRY, "    found = {}", *lines, "    print(json.dumps(found))\n"])
    return probe(source, user, capabilities)


INTRUDER = ("CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_PTRACE")
MOUNTS = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN")
SETS = [
    ("alice", ()),
    ("root", ()),
    ("root", ("CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL")),
    ("root", INTRUDER),
]
USERS = pytest.mark.parametrize(("user", "capabilities"), SETS)
# With every set of capabilities that a challenge gives.
ALL_USERS = pytest.mark.parametrize(
    ("user", "capabilities"), [*SETS, ("alice", MOUNTS), ("root", (*MOUNTS, *INTRUDER))]
)


def test_every_capability_that_a_challenge_gives_is_tried() -> None:
    given = {
        name
        for check in (ROOT / "labs").glob("*/challenge/*/check.py")
        for name in re.findall(r"CAP_[A-Z_]+", check.read_text())
    }
    tried = {name for _, names in SETS for name in names} | {*MOUNTS}
    assert given <= tried | {"CAP_NET_BIND_SERVICE"}


@ALL_USERS
def test_process_1_is_out_of_reach(user: str, capabilities: tuple[str, ...]) -> None:
    found = try_out(
        {
            "its root": "os.stat('/proc/1/root/')",
            "where it is": "os.listdir('/proc/1/cwd/')",
            "what is above": "os.listdir('/proc/1/cwd/../..')",
            "its memory": "os.open('/proc/1/mem', os.O_RDWR)",
            "its descriptors": "os.listdir('/proc/1/fd')",
            "its namespaces": "os.open('/proc/1/ns/mnt', os.O_RDONLY)",
            "its environment": "open('/proc/1/environ').read()",
            "trace it": "checked(libc.ptrace(16, 1, 0, 0))",
            "seize it": "checked(libc.ptrace(0x4206, 1, 0, 0))",
        },
        user,
        capabilities,
    )
    assert {name: errno for name, errno in found.items() if errno not in ("EPERM", "EACCES")} == {}


@ALL_USERS
def test_no_signal_ends_process_1(user: str, capabilities: tuple[str, ...]) -> None:
    found = probe(
        """
        import json, os
        for number in range(1, 65):
            try:
                os.kill(1, number)
            except OSError:
                pass
        print(json.dumps({"alive": os.path.exists("/proc/1")}))
        """,
        user,
        capabilities,
    )
    assert found == {"alive": True}


@USERS
def test_files_are_read_only_or_not_there(user: str, capabilities: tuple[str, ...]) -> None:
    places = {
        **dict.fromkeys(("/usr/new", "/etc/new", "/new", "/dev/new"), "EROFS"),
        **dict.fromkeys(("/usr/bin/env", "/etc/passwd", "/proc/sys/net/ipv4/tcp_fin_timeout"), ""),
        **dict.fromkeys(("/work/new", "/work/program.py"), "EACCES"),
        "/tmp/new": "done",
    }
    found = try_out({path: f"write({path!r})" for path in places}, user, capabilities)
    for path, expected in places.items():
        wanted = {expected} if expected else {"EROFS", "EACCES"}
        assert found[path] in wanted, path


@USERS
def test_nothing_of_homes_secrets_services_or_this_project_is_there(
    user: str, capabilities: tuple[str, ...]
) -> None:
    secrets = [str(ROOT), "/home", "/root/.ssh", "/etc/shadow", "/var", "/run", "/sys", "/boot"]
    secrets += ["/mnt", "/srv", "/etc/ssl/private", os.path.expanduser("~/.ssh")]
    found = try_out({path: f"os.listdir({path!r})" for path in secrets}, user, capabilities)
    assert {path: errno for path, errno in found.items() if errno != "ENOENT"} == {}


@USERS
def test_it_sees_no_process_but_its_own(user: str, capabilities: tuple[str, ...]) -> None:
    found = probe(
        """
        import json, os
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        print(json.dumps({"pids": pids, "own": os.getpid(), "open": os.listdir("/proc/self/fd")}))
        """,
        user,
        capabilities,
    )
    assert found["pids"] == [1, found["own"]]
    assert {str(descriptor) for descriptor in "012"} <= set(map(str, found["open"]))  # type: ignore[call-overload]
    assert len(found["open"]) == 4  # type: ignore[arg-type]  # the fourth is of the listing


@USERS
def test_it_has_no_power_over_what_it_does_not_own(
    user: str, capabilities: tuple[str, ...]
) -> None:
    found = try_out(
        {
            "trace process 1": "checked(libc.ptrace(16, 1, 0, 0))",
            "read process 1": "open('/proc/1/environ').read()",
            "enter process 1's root": "os.listdir('/proc/1/root/')",
            "make a user namespace": "checked(libc.unshare(0x10000000))",
            "mount": "checked(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
            "leave the root folder": "os.chroot('/tmp')",
            "make a device": "os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0))",
            "name the host": "__import__('socket').sethostname('mine')",
            "raise a limit": "checked(libc.setrlimit(7, (ctypes.c_ulong * 2)(9999, 9999)))",
        },
        user,
        capabilities,
    )
    assert {name: errno for name, errno in found.items() if errno not in ("EPERM", "EACCES")} == {}


def test_it_reaches_no_network_but_the_run_s() -> None:
    found = try_out(
        {
            "elsewhere": "connect(('198.51.100.1', 80))",
            "IPv6": "connect(('2001:db8::1', 80))",
            "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
            "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)",
        },
        "root",
    )
    assert found == {
        "elsewhere": "ENETUNREACH",
        "IPv6": "ENETUNREACH",
        "a raw socket": "EPERM",
        "a packet socket": "EPERM",
    }


def test_a_signal_to_all_does_not_reach_the_agent_of_the_same_user() -> None:
    @challenge("trial", title="A challenge of the tests", hints=(), advice={})
    def check(trial: Trial) -> None:
        server = trial.host("server")
        agent = server.process("agent", user="alice")
        with trial.step("it ends", expect=exactly(0, "status"), why="So it is.") as step:
            program = trial.start("first", server, user="alice")
            trial.expect_end(program)
            trial.settle(lambda: program.status is not None)
            agent.listen(trial.port(8080))
            assert program.status is not None
            step.measured(program.status)

    ended = attempt(
        check,
        """
        import os, signal
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(-1, number)
            except ProcessLookupError:
                pass
        """,
    )
    assert ended.status is ExitStatus.PASSED, ended.error


# --- verdicts on programs that misbehave, within the limit -----------------------------------

FORKS = """
    import os
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
FORKS_AS_MANY = """
    import os, random
    while True:
        try:
            os.setresuid(random.randrange(1, 60000), 0, 0)
            os.fork()
        except OSError:
            pass
"""
TAKES_MEMORY = """
    import os
    os.fork(); os.fork()
    taken = []
    while True:
        taken.append(b"x" * (1 << 20))
"""
TAKES_FILES_IN_MEMORY = """
    import os
    files = []
    for _ in range(200):
        files.append(os.memfd_create("more"))
        os.write(files[-1], b"x" * (3 << 20))
    while True:
        pass
"""
KEEPS_SEGMENTS = """
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    while True:
        segment = libc.shmget(0, 16 << 20, 0o1600)
        place = ctypes.c_void_p(libc.shmat(segment, None, 0))
        ctypes.memset(place, 1, 16 << 20)
        libc.shmdt(place)
"""
MOUNTS_MEMORY = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    os.makedirs("/tmp/more")
    assert libc.mount(b"none", b"/tmp/more", b"tmpfs", 0, b"size=2g") == 0
    for number in range(1 << 20):
        with open(f"/tmp/more/{number}", "wb") as file:
            file.write(b"x" * (3 << 20))
"""
COVERS_PROC = """
    import ctypes, os
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
FLOODS = """
    import os
    while True:
        try:
            os.write(1, b"x" * (1 << 20))
        except OSError:
            pass
"""
HANGS = """
    import signal, time
    for number in range(1, 32):
        if number not in (9, 19):
            signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)
"""
CLOSES = """
    import os, time
    os.closerange(0, 1000)
    while True:
        time.sleep(60)
"""
ENDS = """
    raise SystemExit("not today")
"""
SPINS = """
    while True:
        pass
"""


@pytest.mark.parametrize(
    ("source", "user", "capabilities", "advice"),
    [
        (FORKS, "alice", (), "processes"),
        (FORKS_AS_MANY, "root", ("CAP_SETUID",), "processes"),
        (TAKES_MEMORY, "alice", (), "memory"),
        (TAKES_FILES_IN_MEMORY, "alice", (), "memory"),
        (KEEPS_SEGMENTS, "alice", (), "memory"),
        (MOUNTS_MEMORY, "alice", ("CAP_SYS_ADMIN",), "memory"),
        (COVERS_PROC, "alice", ("CAP_SYS_ADMIN",), "processes"),
        (FLOODS, "alice", (), "none"),
        (HANGS, "alice", (), "none"),
        (CLOSES, "alice", (), "none"),
        (SPINS, "alice", (), "none"),
    ],
)
def test_a_program_that_misbehaves_gets_a_verdict(
    source: str, user: str, capabilities: tuple[str, ...], advice: str
) -> None:
    ended = attempt(listening(user, capabilities, seconds=3), source)
    assert ended.status is ExitStatus.UNSOLVED, ended.error
    assert ended.advice == advice
    assert ended.seconds < 20


def test_a_program_that_ends_early_has_its_last_words() -> None:
    ended = attempt(listening(), ENDS)
    assert ended.status is ExitStatus.UNSOLVED
    assert 'write(2, "not today")' in ended.words
    assert "+++ exited with 1 +++" in ended.words
    assert ended.seconds < 4  # nobody has waited for what can no longer come


def test_what_a_program_leaves_behind_is_gone_with_the_run() -> None:
    mark = f"left-{os.getpid()}"
    left = f"""
        import os, sys, time
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)",
                                          "{mark}"])
        time.sleep(600)
    """
    assert attempt(listening(seconds=1), left).status is ExitStatus.UNSOLVED
    assert not [
        path
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if mark.encode() in read_if_there(path)
    ]


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"#!/nowhere/python\n", "not-started"),
        (b"print('no first line')\n", "not-started"),
        (b"\x7fELF and nothing more", "not-started"),
        (b"", "not-started"),
    ],
)
def test_what_is_no_program_is_a_verdict_with_a_reason(content: bytes, advice: str) -> None:
    files = (File("program.py", content, True),)
    ended = attempt_with(listening(), Submission(Path(), "program.py", files))
    assert ended.status is ExitStatus.UNSOLVED, ended.error
    assert ended.advice == advice


def test_a_program_has_what_is_beside_it() -> None:
    program = b"#!/usr/bin/env python3\nfrom parts.server import serve\nserve()\n"
    server = (
        b"import socket, sys, time\ndef serve():\n"
        b"    listener = socket.create_server(('', int(sys.argv[1])))\n    time.sleep(60)\n"
    )
    files = (
        File("program.py", program, True),
        File("parts/__init__.py", b"", False),
        File("parts/server.py", server, False),
        File("parts/large", b"x" * (1 << 20), False),
    )
    ended = attempt_with(listening(), Submission(Path(), "program.py", files))
    assert ended.status is ExitStatus.PASSED, ended.error


def test_another_language_will_do() -> None:
    shell = (
        b"#!/bin/sh\nexec python3 -c 'import socket, sys, time\n"
        b'listener = socket.create_server(("", int(sys.argv[1])))\ntime.sleep(60)\' "$@"\n'
    )
    files = (File("program.sh", shell, True),)
    ended = attempt_with(listening(), Submission(Path(), "program.sh", files))
    assert ended.status is ExitStatus.PASSED, ended.error


def test_whoever_may_mount_gets_no_further() -> None:
    """CAP_SYS_ADMIN, which a challenge about namespaces gives, is of the run's namespaces alone."""
    found = try_out(
        {
            "make all writable": "checked(libc.mount(None, b'/usr', None, 0x20 | 0x1000, None))",
            "write there": "write('/usr/new')",
            "write to a program": "write('/usr/bin/env')",
            "leave the root folder": "[os.chdir('..') for _ in range(9)] and os.stat('etc/shadow')",
            "take the root away": "checked(libc.umount2(b'/', 2))",
            "see what is above": "os.stat('/../../etc/shadow')",
            "make another root": "os.chroot('/tmp')",
            "enter process 1's root": "os.listdir('/proc/1/root/')",
            "trace process 1": "checked(libc.ptrace(16, 1, 0, 0))",
            "make a user namespace": "checked(libc.unshare(0x10000000))",
            "open a device": "os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0))",
            "set a clock": "__import__('time').clock_settime(0, 0)",
        },
        "alice",
        ("CAP_SYS_ADMIN",),
    )
    for name in ("make all writable", "take the root away"):
        found.pop(name)  # its own mount namespace is its own, and no file is the better for it
    assert {name for name, came in found.items() if came == "done"} == set(), found


def test_what_a_program_says_is_shown_and_not_done() -> None:
    ended = attempt(
        listening(),
        r"""
        import sys
        sys.stderr.buffer.write(b"\x1b[2Jgone \xc2\x9b2J \xff" + b"x" * 5000)
        sys.exit(3)
        """,
    )
    (words,) = [word for word in ended.words if word.startswith("write(2, ")]
    assert words.isprintable()
    assert r"\u001b[2Jgone \x9b2J" in words
    assert len(words) < 300


def test_an_answer_is_shown_and_not_done() -> None:
    @challenge("trial", title="A challenge of the tests", hints=(), advice={})
    def check(trial: Trial) -> None:
        port, server = trial.port(8080), trial.host("server")
        client = server.process("client", user="bob")
        with trial.step("it answers", expect=exactly(1, "answers"), why="So it is.") as step:
            program = trial.start("first", server, port, user="alice")
            trial.settle(lambda: bool(trial.listeners(program, port)))
            answers = trial.ask(client, (server.ipv4, port), 1)
            assert [*answers.by] == ["[2Jgone"]
            step.measured(answers.answered)

    source = r"""
        import socket, sys
        listener = socket.create_server(("", int(sys.argv[1])))
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\x1b[2Jgone")
    """
    ended = attempt(check, source)
    assert ended.status is ExitStatus.PASSED, ended.error
    assert all(word.isprintable() for word in ended.words)


def test_a_process_may_be_named_by_any_bytes() -> None:
    ended = attempt(
        listening(),
        r"""
        import ctypes, os, socket, sys, time
        libc = ctypes.CDLL(None)
        listener = socket.create_server(("", int(sys.argv[1])))
        os.fork()
        libc.prctl(15, b"\xe6\x9c\x8d\xe5\x8a\xff\x1b[31m", 0, 0, 0)
        time.sleep(60)
        """,
    )
    assert ended.status is ExitStatus.PASSED, ended.error


def test_a_listener_cannot_hide_at_a_descriptor_of_ours() -> None:
    ended = attempt(
        listening(),
        f"""
        import os, socket, sys, time
        listener = socket.create_server(("", int(sys.argv[1])))
        os.dup2(listener.fileno(), {CHANNEL_DESCRIPTOR})
        listener.close()
        time.sleep(60)
        """,
    )
    assert ended.status is ExitStatus.PASSED, ended.error
