"""An independent check: the kernel's own tests on the subject, inside the guests that labs run in.

They come from Debian's package of the kernel's source and are built here; nothing of it is kept.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from labs.engine.kernels.apt import Suite
from labs.engine.kernels.boot import booting, start
from labs.engine.kernels.catalogue import choose_known, find_kernel
from labs.engine.model import StepEnded, StepStarted, Verdict
from tests.kernels.guests.selftests import IPV4, IPV6

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from labs.engine.agent import Json
    from labs.engine.model import Event

pytestmark = [pytest.mark.kernels, pytest.mark.alike]

NAMES = [known.name for known in choose_known("uml")]
# The oldest suite whose source has all of these tests: bind_timewait and bind_wildcard came later
# than 6.1. It is a stable one, so that the tests stay as they are.
SUITE, SOURCE = "trixie", "linux-source-6.12"
SELFTESTS = "tools/testing/selftests"
BUILD_DEADLINE = 120.0  # seconds
DEADLINE = 120.0  # seconds that one test may take; bind_bhash takes 10 on a busy machine

PASSED, FAILED = "ok", "not ok"
CASE = re.compile(r"^(?P<result>ok|not ok) \d+ (?P<name>[^\s#]+)", re.MULTILINE)


@dataclass(frozen=True)
class Selftest:
    """A test's program and how its script runs it; one without cases says `success`, if anything.

    What has a result of its own for each case is written with kselftest_harness.h.
    """

    program: str
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    success: str | None = ""

    @property
    def name(self) -> str:
        """What it is called where it is one case."""
        return " ".join((self.program, *self.arguments[1:2]))


TESTS = (
    Selftest("reuseaddr_conflict", success="Success\n"),
    Selftest(
        "reuseaddr_ports_exhausted",
        settings={"ipv4/ip_local_port_range": "32768 32768", "ipv4/ip_autobind_reuse": "1"},
        success=None,
    ),
    Selftest("reuseport_addr_any", success="SUCCESS\n"),
    Selftest("reuseport_dualstack", success="SUCCESS\n"),
    Selftest("reuseport_bpf", success="SUCCESS\n"),
    Selftest("sk_bind_sendto_listen"),
    Selftest("bind_timewait", success=None),
    Selftest("bind_wildcard", success=None),
    # Its status is 0 whatever happens.
    Selftest("bind_bhash", ("443", "ipv4", IPV4), success="time spent ="),
    Selftest("bind_bhash", ("443", "ipv6", IPV6), success="time spent ="),
)
# All results of the four with cases, and those of the others.
COUNT = 3 + 2 + 132 + 7

# Where ::ffff:0.0.0.0 is bound, 6.1 since 6.1.168 lets ::ffff:127.0.0.1 have the port as well. It
# was given "tcp: Use bhash2 for v4-mapped-v6 non-wildcard address." of 6.8 without the address type
# in struct inet_bind2_bucket that 6.8 has: inet_bind2_bucket_match_addr_any() takes only :: for the
# wildcard of two IPv6 sockets. The lab of test_bisect.py meets the same. These are the cases that
# bind ::ffff:0.0.0.0 and then try ::ffff:127.0.0.1, with nothing else there to refuse it.
DIFFERENCES = {
    "6.1": {
        *(
            f"bind_wildcard.{variant}.{options}"
            for variant in (
                "v6_v4mapped_any_v4_any",
                "v6_any_only_v6_v4mapped_any",
                "v6_local_v6_v4mapped_any",
                "v6_v4mapped_any_v6_any_only",
                "v6_v4mapped_any_v6_local",
            )
            for options in ("plain", "reuseaddr", "reuseport")
        ),
        "bind_wildcard.v6_v4mapped_any_v4_local.plain",
        "bind_wildcard.v6_v4mapped_any_v6_any.plain",
        "bind_wildcard.v6_v4mapped_any_v6_v4mapped_local.plain",
    }
}

# Cases, and the steps of the lab euid that show the same rule.
SAME_OWNER_SHARES = (
    "A second process of Alice's joins",
    "A child that Alice forks makes its own socket and joins",
)
AGREEMENT = {
    # Two EUIDs, both options: bind() lets both in as long as none listens, listen() only one.
    "reuseaddr_ports_exhausted_reusable_different_euid": (
        "Bob asks for the port, with SO_REUSEPORT",
        "Root asks for the port, with SO_REUSEPORT",
    ),
    # Listeners of one owner on one address and port, all with SO_REUSEPORT.
    "reuseport_addr_any": SAME_OWNER_SHARES,
    "reuseport_dualstack": SAME_OWNER_SHARES,
    "reuseport_bpf": SAME_OWNER_SHARES,
    # With SO_REUSEPORT on the first two sockets, the third, without it, is refused.
    "bind_wildcard.v4_any_v4_local.reuseport": ("Alice herself asks for it, without SO_REUSEPORT",),
    # Another address is no conflict, and neither is a port that nothing is left on.
    "bind_bhash ipv4": ("Alice closes hers, and Bob asks again",),
}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tests' programs, built anew."""
    if shutil.which("gcc") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("gcc is not installed")
    folder = tmp_path_factory.mktemp("selftests")
    source = fetch_source(folder)
    names = sorted({test.program for test in TESTS})
    # Two at once; the guests use the libraries of this machine.
    for pair in itertools.zip_longest(names[::2], names[1::2]):
        build(source, folder, [name for name in pair if name])
    return folder


def fetch_source(folder: Path) -> Path:
    """Get the source from where apt gets packages, and unpack the tests; their folder."""
    suite_folder = folder / "apt"
    suite_folder.mkdir()
    suite = Suite(SUITE, suite_folder)
    suite.update()
    package = suite.find(SOURCE)
    for _ in suite.download([package]):
        pass
    archive = suite.unpack([package]) / "usr" / "src" / f"{SOURCE}.tar.xz"
    parts = [f"{SOURCE}/{SELFTESTS}/{part}" for part in ("net/*.c", "net/*.h", "kselftest*.h")]
    with subprocess.Popen(
        ["xz", "--decompress", "--stdout", "--threads=0", archive], stdout=subprocess.PIPE
    ) as unpacking:
        subprocess.run(
            ["tar", "--extract", "--wildcards", "--no-wildcards-match-slash", *parts],
            cwd=folder,
            stdin=unpacking.stdout,
            timeout=BUILD_DEADLINE,
            check=True,
        )
    assert unpacking.returncode == 0
    shutil.rmtree(suite_folder)
    return folder / SOURCE / SELFTESTS / "net"


def build(source: Path, folder: Path, names: Sequence[str]) -> None:
    """Build some programs side by side."""
    command = ["gcc", "-O1", "-w", "-D_GNU_SOURCE", "-pthread"]
    with contextlib.ExitStack() as stack:
        builds = [
            stack.enter_context(
                subprocess.Popen([*command, "-o", folder / name, source / f"{name}.c"])
            )
            for name in names
        ]
        assert [build.wait(BUILD_DEADLINE) for build in builds] == [0] * len(names)


@pytest.fixture(scope="module")
def results(programs: Path) -> Mapping[str, Mapping[str, str]]:
    """The result of each case on each kernel; the kernels run side by side."""
    found: dict[str, dict[str, str]] = {name: {} for name in NAMES}
    processors = itertools.cycle(sorted(os.sched_getaffinity(0)))
    with contextlib.ExitStack() as stack:
        guests = {}
        for name in NAMES:
            module = "tests.kernels.guests.selftests"
            guests[name] = start(find_kernel(name), next(processors), module)
            stack.callback(guests[name].close)
        for guest in guests.values():
            guest.wait_until_ready()
        for test in TESTS:
            command: list[Json] = [str(programs / test.program), *test.arguments]
            for guest in guests.values():
                guest._send({"command": command, "settings": dict(test.settings)})
            for name, guest in guests.items():
                answer = guest._receive(DEADLINE)
                found[name] |= read_results(test, answer["status"], str(answer["output"]))
    return found


def read_results(test: Selftest, status: object, output: str) -> dict[str, str]:
    """The result of each of a test's cases."""
    if test.success is not None:
        return {test.name: PASSED if status == 0 and test.success in output else FAILED}
    cases = {match["name"]: match["result"] for match in CASE.finditer(output)}
    plan = re.search(r"^1\.\.(\d+)$", output, re.MULTILINE)
    assert plan, output
    assert len(cases) == int(plan[1]), output
    assert (status == 0) == (FAILED not in cases.values()), output
    return {name.removeprefix("global."): result for name, result in cases.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_passes_its_own_tests(
    name: str, results: Mapping[str, Mapping[str, str]]
) -> None:
    of_kernel = results[name]
    assert len(of_kernel) == COUNT
    failed = {case for case, result in of_kernel.items() if result != PASSED}
    assert failed == DIFFERENCES.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_the_lab_shows_what_the_kernels_tests_show(
    name: str, results: Mapping[str, Mapping[str, str]]
) -> None:
    events: list[Event] = []
    with booting(find_kernel(name), min(os.sched_getaffinity(0))) as guest:
        guest.wait_until_ready()
        guest.run({"lab": "euid"}, None, events.append)
    titles = {event.number: event.title for event in events if isinstance(event, StepStarted)}
    shown = {
        titles[event.number]: event.verdict for event in events if isinstance(event, StepEnded)
    }
    for case, steps in AGREEMENT.items():
        for step in steps:
            assert (shown[step] is Verdict.PASSED) == (results[name][case] == PASSED), (case, step)
