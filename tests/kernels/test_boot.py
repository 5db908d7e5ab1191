"""Kernels that really boot: what runs inside, what the guest may do, and what goes wrong."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.kernels import boot, uml
from labs.engine.kernels.boot import booting, start
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.model import HostOpened, RunEnded, RunStarted, StepEnded, Verdict
from labs.engine.system import libc
from tests.support import ROOT, TIMEOUT, find_children, private_copy, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.kernels.boot import Guest
    from labs.engine.model import Event

pytestmark = pytest.mark.kernels

NAMES = [known.name for known in choose_known("uml")]
NEWEST = NAMES[-1]
GUESTS = "tests.kernels.guests"
SYS_KCMP, KCMP_VM = 312, 1


def boot_for_test(module: str) -> Guest:
    """A guest of the tests, on the newest kernel."""
    return start(find_kernel(NEWEST), module=f"{GUESTS}.{module}")


FULL = pytest.param("qemu:6.1", marks=pytest.mark.qemu)


@pytest.fixture(scope="module", params=[*NAMES, FULL])
def booted(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest of each kernel, which serves several tests: a full one takes long to boot."""
    with booting(find_kernel(request.param)) as guest:
        guest.wait_until_ready()
        yield guest


def test_a_lab_passes_inside(booted: Guest) -> None:
    events: list[Event] = []
    assert booted.run({"lab": "euid"}, None, events.append) is ExitStatus.PASSED
    first = events[0]
    assert isinstance(first, RunStarted)
    machine, _, version = booted.kernel.name.rpartition(":")
    assert (first.machine, first.backend) == (machine or "uml", "namespaces")
    assert first.kernel.startswith(f"{version}.")
    assert first.kernel != os.uname().release
    verdicts = [event.verdict for event in events if isinstance(event, StepEnded)]
    assert verdicts == [Verdict.PASSED] * 18
    assert {event.enter for event in events if isinstance(event, HostOpened)} == {""}
    assert events[-1] == RunEnded(0)


def test_one_boot_serves_several_labs() -> None:
    with booting(find_kernel(NEWEST)) as guest:
        guest.wait_until_ready()
        releases = []
        for lab in ("euid", "containers", "euid"):
            events: list[Event] = []
            assert guest.run({"lab": lab}, 7, events.append) is ExitStatus.PASSED
            assert isinstance(events[0], RunStarted)
            assert (events[0].lab, events[0].seed) == (lab, 7)
            releases.append(events[0].kernel)
        assert len(set(releases)) == 1


def test_the_command_shows_what_happened_inside() -> None:
    done = run("lab.euid", "--kernel", NEWEST, "--json", "-")
    assert done.status == 0
    assert f'"kernel": "{NEWEST}.' in done.output
    assert '"machine": "uml"' in done.output
    assert re.search(rf"namespaces, Linux {NEWEST}\.\d+ \(uml\), bindlab", done.errors)
    assert "18 steps: 18 as expected" in done.errors


def test_a_difference_inside_is_a_difference_outside(tmp_path: Path) -> None:
    """The status is the guest's own word."""
    with booting(find_kernel(NEWEST)) as guest:
        guest.wait_until_ready()
        events: list[Event] = []
        assert guest.run({"lab": "nowhere"}, None, events.append) is ExitStatus.FAILED
        assert isinstance(events[-1], RunEnded)
        assert "nowhere" in events[-1].error


# --- what the guest may do ----------------------------------------------------------------


TRESPASS = """
import sys
from labs.engine.errors import EngineError
from labs.engine.kernels.boot import start
from labs.engine.kernels.catalogue import find_kernel
guest = start(find_kernel(sys.argv[1]), module="tests.kernels.guests.trespasses")
try:
    guest.wait_until_ready()
    guest.run({"lab": sys.argv[2]}, None, print)
except EngineError as error:
    print(error.hint)
finally:
    guest.close()
"""


@pytest.mark.alone
def test_a_guest_takes_at_most_256_mib(booted: Guest) -> None:
    events: list[Event] = []
    status = booted.run({"lab": "scale"}, None, events.append)
    # It came to its end; how fast a guest is, is not asked here.
    assert status in (ExitStatus.PASSED, ExitStatus.DIFFERS), events[-1]
    program = os.readlink(f"/proc/{booted._keeper}/exe")
    executed = [pid for pid in descendants(booted._keeper) if executes_another(pid, program)]
    taken = sum(resident_size(pid) for pid in one_of_each_memory(executed))
    assert 32 < taken <= 256


def descendants(pid: int) -> Iterator[int]:
    for child in find_children(pid):
        yield child
        yield from descendants(child)


def executes_another(pid: int, program: str) -> bool:
    """Whether a process is more than a copy of the tests, whose memory would count as its own."""
    try:
        return os.readlink(f"/proc/{pid}/exe") != program
    except FileNotFoundError:
        return False


def one_of_each_memory(pids: Sequence[int]) -> list[int]:
    """One process for each memory: those of CLONE_VM each have the whole of theirs (kcmp(2))."""
    chosen: list[int] = []
    for pid in pids:
        if all(libc.syscall(SYS_KCMP, pid, other, KCMP_VM, 0, 0) != 0 for other in chosen):
            chosen.append(pid)
    return chosen


@pytest.mark.alone
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_boots_where_ptrace_knows_few_registers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for the old ones on a processor that has more registers than they keep."""
    monkeypatch.setattr(uml, "has_many_registers", lambda: True)
    with booting(find_kernel(name)) as guest:
        guest.wait_until_ready()
        assert guest.run({"lab": "euid"}, None, lambda _: None) is ExitStatus.PASSED


def resident_size(pid: int) -> float:
    """A process's share of the memory that it has (Pss of proc(5)), in MiB.

    Without files that are mapped: the kernel takes that memory back when it wants it. One that has
    ended, as the lab's processes inside do meanwhile, has none.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = dict(line.split(":", 1) for line in lines)
    return sum(int(sizes[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) / 1024


# Without a user namespace root may make no others without it; a guest of root's has none.
WITHOUT_NAMESPACES = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
BY_NAMESPACES = {"Read-only file system"}
BY_LANDLOCK = {"Read-only file system", "Permission denied"}


@pytest.mark.parametrize("name", [NAMES[0], NEWEST])
@pytest.mark.parametrize(
    ("prefix", "refusals"),
    [
        pytest.param((), BY_NAMESPACES, id="namespaces"),
        pytest.param(WITHOUT_NAMESPACES, BY_LANDLOCK, id="landlock", marks=pytest.mark.root_only),
    ],
)
def test_a_guest_changes_no_file_and_reaches_no_network(
    prefix: tuple[str, ...], refusals: set[str], name: str, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.write_text("as it was\n")
    os.utime(there, (1_000_000_000, 1_000_000_000))
    before = there.stat()
    done = subprocess.run(
        [*prefix, sys.executable, "-c", TRESPASS, name, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    outcomes = ast.literal_eval(done.stdout)
    assert outcomes.pop("read") == "done"
    assert outcomes.pop("network") == "Network is unreachable"
    assert set(outcomes.values()) == refusals, outcomes
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert there.read_text() == "as it was\n"
    after = there.stat()
    assert (after.st_mode, after.st_uid, after.st_mtime, after.st_ino) == (
        before.st_mode,
        before.st_uid,
        before.st_mtime,
        before.st_ino,
    )


@pytest.mark.root_only
@pytest.mark.parametrize("name", NAMES)
def test_a_guest_needs_no_namespaces(name: str) -> None:
    before = set(os.listdir("/dev/shm"))
    done = run("lab.euid", "--kernel", name, prefix=WITHOUT_NAMESPACES)
    assert (done.status, done.errors) == (0, "")
    assert "18 steps: 18 as expected" in done.output
    assert {entry for entry in os.listdir("/dev/shm") if entry.startswith("bindlab-")} <= before


@pytest.mark.root_only
@pytest.mark.parametrize("name", [NAMES[0], NEWEST])
def test_a_guest_reads_the_project_in_a_home_that_is_one_users_alone(name: str) -> None:
    with private_copy(64001) as folder:
        done = run("lab.euid", "--kernel", name, folder=folder)
    assert (done.status, done.errors) == (0, "")


# --- what goes wrong ----------------------------------------------------------------------


def test_a_guest_that_dies_at_its_start_could_not_boot() -> None:
    guest = boot_for_test("panics")
    try:
        with pytest.raises(CannotRun, match="has died") as problem:
            guest.wait_until_ready()
    finally:
        guest.close()
    assert "the guest gives up" in problem.value.hint
    assert "Kernel panic" in problem.value.hint
    assert "Call Trace" not in problem.value.hint


def test_a_guest_that_never_speaks_could_not_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "BOOT_DEADLINE", 2.0)
    guest = boot_for_test("hangs")
    try:
        with pytest.raises(CannotRun, match="not a word within 2 seconds"):
            guest.wait_until_ready()
    finally:
        guest.close()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("die", "has died"),
        ("crash", "has died"),
        ("memory", "has died"),
        ("hang", "hangs"),
        ("nonsense", "told nonsense: b'nonsense'"),
        ("array", "told nonsense"),
        ("event", "told nonsense"),
        ("pass", "told nonsense"),
        ("endless", "told nonsense"),
    ],
)
def test_a_guest_that_fails_in_a_lab_never_passes(
    how: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "SILENCE", 5.0 if how == "hang" else 60.0)
    guest = boot_for_test("misbehaves")
    events: list[Event] = []
    try:
        guest.wait_until_ready()
        with pytest.raises(EngineError, match=said) as problem:
            guest.run({"lab": how}, None, events.append)
    finally:
        guest.close()
    assert problem.value.status is ExitStatus.FAILED
    assert len(events) == 1
    if said == "has died":
        assert "Kernel panic" in problem.value.hint


def test_a_kernel_without_what_labs_need_cannot_run_them() -> None:
    with booting(replace(find_kernel(NEWEST), modules=None)) as guest:
        guest.wait_until_ready()
        events: list[Event] = []
        assert guest.run({"lab": "euid"}, None, events.append) is ExitStatus.CANNOT_RUN
    assert isinstance(events[-1], RunEnded)
    assert "bridge" in events[-1].error
    assert "module" in events[-1].hint


def test_a_program_that_is_no_kernel_cannot_boot(tmp_path: Path) -> None:
    program = tmp_path / "linux"
    program.write_bytes(find_kernel(NEWEST).image.read_bytes()[:100_000])
    program.chmod(0o755)
    guest = start(replace(find_kernel(NEWEST), image=program))
    try:
        with pytest.raises(CannotRun):
            guest.wait_until_ready()
    finally:
        guest.close()


def test_a_lab_on_a_kernel_that_is_not_there_says_what_gets_it(tmp_path: Path) -> None:
    done = run("lab.euid", "--kernel", "6.12", XDG_CACHE_HOME=str(tmp_path))
    assert done.status == 125
    assert "invoke kernel.fetch 6.12" in done.errors
    assert not list(tmp_path.iterdir())


def test_the_doctor_boots_a_kernel(tmp_path: Path) -> None:
    done = run("doctor")
    assert done.status == 0
    assert f"isolated kernels: works. {NEWEST} booted" in done.output
    done = run("doctor", XDG_CACHE_HOME=str(tmp_path))
    assert f"to mend it: invoke kernel.fetch {NEWEST}" in done.output


def test_a_kernel_of_its_own_has_no_docker() -> None:
    done = run("lab.euid", "--kernel", NEWEST, "--backend", "docker")
    assert done.status == 2


def test_a_plan_boots_nothing() -> None:
    done = run("lab.euid", "--kernel", NEWEST, "--dry")
    assert done.status == 0
    assert "uml" not in done.output
