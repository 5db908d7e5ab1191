"""Measures speed as ratios: each side in the same run, by turns, and the medians compared.

A machine's speed changes from one moment to the next, so a duration alone says little; what is
measured here is how many times longer bindlab takes than the least that the task could cost, or
than Mininet or virtme-ng.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from labs.engine.bench_command import time_command, time_invoke
from labs.engine.bench_learn import compare_keys
from labs.engine.bench_reports import compare_reports
from labs.engine.bench_rows import (
    HEADINGS,
    Comparison,
    NotMeasured,
    compare_times,
    show_seconds,
    take_turns,
    write_line,
)
from labs.engine.bench_rules import compare_rules
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.model import Call, Reference
from labs.engine.plans import ProcessPlan
from labs.engine.reach import reach_each, start_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WHOLE_RUN_LIMIT = 3.0
START_LIMIT = 5.0
MININET_LIMIT = 0.25
CONTAINERS_LIMIT = 1.5
CLASS_LIMIT = 1.3
KERNEL_LIMIT = 2.0
VIRTME_LIMIT = 0.1
AT_ONCE_LIMIT = 3.0  # seconds, on two processors
MATRIX_LIMIT = 90.0  # seconds
SAVE_LIMIT = 0.5  # seconds more than the check alone
GRADING_LIMIT = 60.0  # seconds, on two processors
LEAST_CALLS = 10_000  # a second

WHOLE_RUN_ROUNDS = 11
START_ROUNDS = 200
HOSTS_ROUNDS = 5
CONTAINERS_ROUNDS = 5
CLASS_ROUNDS = 3
CALLS_ROUNDS = 25
KERNEL_ROUNDS = 5
AT_ONCE_ROUNDS = 3

FEW_HOSTS = 50
MANY_HOSTS = 500
BATCH = 1_000
CALLS_IN_TURN = 4  # socket, setsockopt, getsockname, close

# A bare interpreter measures once for every line that it reads.
BARE = """
import os, socket, sys, time
{measure}
for line in sys.stdin:
    print(measure(), flush=True)
"""

# setuid() to another user needs root; to one's own uid it costs the same call.
BARE_FORK = """
uid = os.getuid() or 65534
def measure():
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.setuid(uid)
        os._exit(0)
    os.waitpid(pid, 0)
    return time.perf_counter() - start
"""

BARE_CALLS = f"""
def measure():
    start = time.perf_counter()
    for _ in range({BATCH // CALLS_IN_TURN}):
        new = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        new.getsockname()
        new.close()
    return time.perf_counter() - start
"""

MININET_PYTHON = "/usr/bin/python3"  # where the distribution's package puts its module

# Mininet's own preparation raises limits of the whole machine, and takes time: it is left out.
MININET_CODE = f"""
import time
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
Mininet.inited = True
start = time.perf_counter()
net = Mininet(topo=SingleSwitchTopo({FEW_HOSTS}), switch=LinuxBridge, controller=None)
net.start()
alive = time.perf_counter()
processes = {{host.pid for host in net.hosts if host.shell.poll() is None}}
assert len(processes) == {FEW_HOSTS}, processes
checked = time.perf_counter()
net.stop()
print(time.perf_counter() - checked + alive - start)
"""

# Mininet works in the machine's own network; here it gets one that ends with it.
APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
MININET_DEADLINE = 300.0  # seconds


@dataclass(frozen=True)
class HostsOpened:
    """How long it took to open hosts, reach each and close them, and how many were reached."""

    seconds: float
    reached: int


def run_benchmarks(*, quick: bool = False) -> ExitStatus:
    """Make comparisons and print a table of them; DIFFERS if one is beyond its limit.

    A quick run leaves out those that take minutes.
    """
    write_line(HEADINGS)
    beyond = False
    for row in itertools.chain(measure_most(), () if quick else measure_the_rest()):
        match row:
            case Comparison():
                word = {True: "yes", False: "no", None: "-"}[row.within]
                write_line((row.name, row.ours, row.other, f"{row.ratio:.3g}", row.limit, word))
                beyond = beyond or row.within is False
            case NotMeasured():
                write_line((row.name, f"not measured: {row.reason}"))
    return ExitStatus.DIFFERS if beyond else ExitStatus.PASSED


def measure_most() -> Iterator[Comparison | NotMeasured]:
    """The comparisons that take seconds each, one after the other."""
    yield compare_whole_run()
    yield compare_start()
    yield compare_calls()
    few: list[HostsOpened] = []
    yield compare_with_mininet(few)
    yield compare_sizes(few)
    yield from compare_containers()
    yield from compare_kernels()
    yield compare_saves()


def measure_the_rest() -> Iterator[Comparison | NotMeasured]:
    """The comparisons that take a minute or more each."""
    yield compare_class()
    yield compare_matrix()
    yield compare_grading()
    yield from compare_reports()
    yield compare_keys()
    yield from compare_rules()


# --- a whole run --------------------------------------------------------------------------


def compare_whole_run() -> Comparison:
    """A lab from the command line to its end, against Invoke that does nothing."""
    own = shutil.which("invoke", path=sysconfig.get_path("scripts"))
    invoke = [own] if own else [sys.executable, "-m", "invoke"]
    lab, nothing = [*invoke, "lab.euid"], [*invoke, "--version"]
    for command in (lab, nothing):
        time_command(command)  # the first run compiles and fills caches
    ours, other = take_turns(
        WHOLE_RUN_ROUNDS, lambda: time_command(lab), lambda: time_command(nothing)
    )
    return compare_times("invoke lab.euid : invoke --version", ours, other, WHOLE_RUN_LIMIT)


# --- one process --------------------------------------------------------------------------


@contextlib.contextmanager
def open_bare(measure: str) -> Iterator[Callable[[], float]]:
    """A function that lets a fresh Python with nothing but the standard library measure itself."""
    code = BARE.format(measure=measure)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as python:
        asked, answered = python.stdin, python.stdout
        assert asked is not None and answered is not None

        def once() -> float:
            asked.write("\n")
            asked.flush()
            line = answered.readline()
            if not line:
                raise EngineError("The bare interpreter has died.")
            return float(line)

        yield once


def compare_start() -> Comparison:
    """Starting one more process on a warm host, against fork, setuid and exit in bare Python."""
    from labs.engine.backends.namespaces.backend import open_namespaces

    layout = Layout(None)
    plan = ProcessPlan("one-more", "server", layout.uid("alice"))
    with open_namespaces() as backend, open_bare(BARE_FORK) as other:
        backend.open_host(layout.host("server"))

        def ours() -> float:
            start = perf_counter()
            backend.start_process(plan)
            seconds = perf_counter() - start
            backend.end_process(plan.name, SIGKILL)
            return seconds

        take_turns(START_ROUNDS // 10, ours, other)
        seconds = take_turns(START_ROUNDS, ours, other)
    return compare_times("one more process : fork, setuid, exit", *seconds, START_LIMIT)


def compare_calls() -> Comparison:
    """Calls a second through one process in batches, against a plain loop in bare Python."""
    from labs.engine.backends.namespaces.backend import open_namespaces

    layout = Layout(None)
    batch = make_batch()
    with open_namespaces() as backend, open_bare(BARE_CALLS) as other:
        backend.open_host(layout.host("server"))
        backend.start_process(ProcessPlan("caller", "server", layout.uid("alice")))

        def ours() -> float:
            start = perf_counter()
            results = backend.perform("caller", batch)
            seconds = perf_counter() - start
            if len(results) != BATCH or results[-1].errno:
                raise EngineError(f"A call of the benchmark failed: {results[-1].errno_name}.")
            return seconds

        take_turns(CALLS_ROUNDS // 10, ours, other)
        mine, bare = take_turns(CALLS_ROUNDS, ours, other)
    return Comparison(
        name=f"calls a second, batches of {BATCH:,} : bare loop",
        ours=f"{BATCH / mine:,.0f}",
        other=f"{BATCH / bare:,.0f}",
        ratio=mine / bare,
        limit=f">={LEAST_CALLS:,}",
        within=BATCH / mine >= LEAST_CALLS,
    )


def make_batch() -> list[Call]:
    """What the bare loop calls, in the same order."""
    batch = []
    for index in range(0, BATCH, CALLS_IN_TURN):
        new = Reference(index)
        batch += [
            Call("socket", (socket.AF_INET, socket.SOCK_STREAM)),
            Call("setsockopt", (new, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)),
            Call("getsockname", (new,)),
            Call("close", (new,)),
        ]
    return batch


# --- containers ---------------------------------------------------------------------------


def compare_containers() -> Iterator[Comparison | NotMeasured]:
    """The docker backend against the engine alone; both sides make the same containers."""
    from labs.engine import bench_containers as containers
    from labs.euid.lab import euid

    of_lab = "lab.euid --backend docker : the engine alone"
    of_many = f"{containers.MANY} containers, gone : the engine alone"
    try:
        needs, many = containers.needs_of(euid), containers.many_needs()
        seconds = take_turns(
            CONTAINERS_ROUNDS,
            lambda: time_invoke("lab.euid", "--backend", "docker"),
            lambda: containers.time_engine(needs),
        )
        yield compare_times(of_lab, *seconds, CONTAINERS_LIMIT)
        seconds = take_turns(
            CONTAINERS_ROUNDS // 2,
            lambda: containers.time_backend(many),
            lambda: containers.time_engine(many),
        )
        yield compare_times(of_many, *seconds, CONTAINERS_LIMIT)
    except CannotRun as error:
        yield NotMeasured(of_lab, error.message)


def compare_class() -> Comparison | NotMeasured:
    """A class on one engine, against the engine alone with the same containers."""
    from labs.engine import bench_containers as containers

    name = f"class.run of {containers.LEARNERS} learners : the engine alone"
    try:
        containers.check_workbench()
        seconds = take_turns(CLASS_ROUNDS, containers.time_class, containers.time_class_of_engine)
    except CannotRun as error:
        return NotMeasured(name, error.message)
    return compare_times(name, *seconds, CLASS_LIMIT)


# --- isolated kernels ---------------------------------------------------------------------


def compare_kernels() -> Iterator[Comparison | NotMeasured]:
    """Whole commands on isolated kernels, against this machine's, one at a time, and virtme-ng."""
    from labs.engine import bench_kernels as isolated

    alone = f"lab.euid --kernel {isolated.VERSION} : on this kernel"
    try:
        names = isolated.usual_kernels()
        lab = (isolated.LAB, "--kernel", isolated.VERSION)
        time_invoke(*lab)
        seconds = take_turns(
            KERNEL_ROUNDS, lambda: time_invoke(*lab), lambda: time_invoke(isolated.LAB)
        )
        yield compare_times(alone, *seconds, KERNEL_LIMIT)
        yield compare_at_once("euid", names, AT_ONCE_ROUNDS, AT_ONCE_LIMIT)
    except CannotRun as error:
        yield NotMeasured(alone, error.message)
        return
    by_virtme = f"lab.euid --kernel {isolated.VERSION} : virtme-ng"
    try:
        with isolated.open_virtme() as guest:
            yield compare_times(by_virtme, seconds[0], isolated.time_virtme(guest), VIRTME_LIMIT)
    except CannotRun as error:
        yield NotMeasured(by_virtme, error.message)


def compare_matrix() -> Comparison | NotMeasured:
    """Every lab on the usual kernels side by side, against one kernel at a time."""
    from labs.engine import bench_kernels as isolated

    try:
        return compare_at_once("", isolated.usual_kernels(), 1, MATRIX_LIMIT)
    except CannotRun as error:
        return NotMeasured("every lab on isolated kernels : one by one", error.message)


def compare_at_once(labs: str, kernels: str, rounds: int, limit: float) -> Comparison:
    """A matrix whose guests run side by side against one guest at a time; the limit in seconds."""
    matrix = ("kernel.matrix", "--kernels", kernels, "--labs", labs)
    ours, other = take_turns(
        rounds, lambda: time_invoke(*matrix), lambda: time_invoke(*matrix, "--jobs", "1")
    )
    return Comparison(
        name=f"{labs or 'every lab'} on {kernels} : one by one",
        ours=show_seconds(ours),
        other=show_seconds(other),
        ratio=ours / other,
        limit=f"<={limit:g} s",
        within=ours <= limit,
    )


# --- exercises ----------------------------------------------------------------------------


def compare_saves() -> Comparison:
    """A save in watch mode, against the check alone."""
    from labs.engine import bench_exercises as exercises

    ours, other = exercises.time_saves()
    return Comparison(
        name="exercise.watch, save to verdict : the check alone",
        ours=show_seconds(ours),
        other=show_seconds(other),
        ratio=ours / other,
        limit=f"+{SAVE_LIMIT:g} s",
        within=ours - other <= SAVE_LIMIT,
    )


def compare_grading() -> Comparison:
    """A folder of submissions, against the checks alone."""
    from labs.engine import bench_exercises as exercises

    ours, other = exercises.time_grading()
    return Comparison(
        name=f"exercise.grade of {exercises.SUBMISSIONS} : one by one",
        ours=show_seconds(ours),
        other=show_seconds(other),
        ratio=ours / other,
        limit=f"<={GRADING_LIMIT:g} s",
        within=ours <= GRADING_LIMIT,
    )


# --- many hosts ---------------------------------------------------------------------------


def compare_with_mininet(few: list[HostsOpened]) -> Comparison | NotMeasured:
    """Hosts opened, reached and gone, against Mininet's start and stop; ours go to `few` too."""
    name = f"{FEW_HOSTS} hosts, reached, gone : Mininet start, stop"
    open_and_reach(2)  # imports, and modules that the kernel loads on first use
    reason = find_mininet_obstacle()
    if reason:
        few.extend(open_and_reach(FEW_HOSTS) for _ in range(HOSTS_ROUNDS))
        return NotMeasured(name, reason)

    def ours() -> float:
        few.append(open_and_reach(FEW_HOSTS))
        return few[-1].seconds

    seconds = take_turns(HOSTS_ROUNDS, ours, time_mininet)
    comparison = compare_times(name, *seconds, MININET_LIMIT)
    unreached = FEW_HOSTS - min(opened.reached for opened in few)
    if unreached:
        raise EngineError(f"{unreached} of {FEW_HOSTS} hosts could not be reached.")
    return comparison


def compare_sizes(few: Sequence[HostsOpened]) -> Comparison:
    """Many hosts against the time of as many in small runs; within if each could be reached."""
    many = open_and_reach(MANY_HOSTS)
    times = MANY_HOSTS // FEW_HOSTS
    other = median(opened.seconds for opened in few) * times
    return Comparison(
        name=f"{MANY_HOSTS} hosts, {many.reached} reached : {times} x {FEW_HOSTS}",
        ours=show_seconds(many.seconds),
        other=show_seconds(other),
        ratio=many.seconds / other,
        limit="-",
        within=None if many.reached == MANY_HOSTS else False,
    )


def open_and_reach(count: int) -> HostsOpened:
    """Open hosts on one bridge, reach each once by TCP from its neighbour, and close all."""
    from labs.engine.backends.namespaces.backend import open_namespaces

    layout = Layout(None)
    start = perf_counter()
    with open_namespaces() as backend:
        plans = [layout.host(f"host-{number}") for number in range(count)]
        for plan in plans:
            backend.open_host(plan)
        start_processes(backend, plans, layout.uid("alice"))
        reached = reach_each(backend, plans, layout.port(8080))
    return HostsOpened(perf_counter() - start, reached)


def find_mininet_obstacle() -> str:
    """Why Mininet cannot be measured here; empty if it can."""
    if os.geteuid() != 0:
        return "Mininet needs root"
    missing = [name for name in ("unshare", "brctl", "mnexec") if shutil.which(name) is None]
    if missing or not Path(MININET_PYTHON).exists():
        return "Mininet is not installed (sudo apt-get install mininet bridge-utils)"
    probe = [*APART, MININET_PYTHON, "-c", "import mininet.net"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        return "Mininet does not start: " + (done.stderr.strip().splitlines() or ["no word"])[-1]
    return ""


def time_mininet() -> float:
    """How long Mininet takes to start and stop the same number of hosts, by its own clock."""
    done = subprocess.run(
        [*APART, MININET_PYTHON, "-c", MININET_CODE],
        capture_output=True,
        text=True,
        timeout=MININET_DEADLINE,
        check=False,
    )
    if done.returncode:
        raise EngineError(f"Mininet failed: {done.stderr.strip()}")
    return float(done.stdout.splitlines()[-1])
