"""Says what works on this machine, by trying it, and what is still missing for the rest."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.reach import reach_each, start_processes
from labs.engine.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from labs.engine.backend import Backend

PORT = 8080


@dataclass(frozen=True)
class Finding:
    """What was tried, what came of it, and the command that mends it where it did not work."""

    what: str
    works: bool
    detail: str
    hint: str = ""


def examine() -> ExitStatus:
    """Try everything, print what was found; CANNOT_RUN where no backend works."""
    release = os.uname().release
    python = ".".join(map(str, sys.version_info[:3]))
    sys.stdout.write(f"bindlab {VERSION}, Python {python}, Linux {release}, {describe_user()}\n\n")
    attempts: dict[str, Callable[[], str]] = {
        "namespaces backend": lambda: open_backend(open_namespaces),
        "docker backend": lambda: open_backend(open_docker_late),
        "isolated kernels": boot_kernel,
    }
    findings = []
    for what, action in attempts.items():
        findings.append(attempt(what, action))
        sys.stdout.write(show(findings[-1]))
        sys.stdout.flush()
    works = any(finding.works for finding in findings)
    return ExitStatus.PASSED if works else ExitStatus.CANNOT_RUN


def attempt(what: str, action: Callable[[], str]) -> Finding:
    """Do it, and say how long what it says was done took, or what it met."""
    start = time.monotonic()
    try:
        done = action()
    except (CannotRun, EngineError) as error:
        return Finding(what, works=False, detail=error.message, hint=error.hint)
    milliseconds = (time.monotonic() - start) * 1000
    return Finding(what, works=True, detail=f"{done} in {milliseconds:.0f} ms.")


def boot_kernel() -> str:
    """Boot the newest User-Mode Linux kernel that was fetched."""
    from labs.engine.kernels.boot import booting
    from labs.engine.kernels.catalogue import choose_known, find_kernel
    from labs.engine.kernels.store import find_stored

    known = choose_known("uml")
    fetched = [each for each in known if find_stored(each.full_name)] or known
    name = fetched[-1].name
    with booting(find_kernel(name)) as guest:
        guest.wait_until_ready()
    return f"{name} booted and powered off"


def open_docker_late() -> AbstractContextManager[Backend]:
    """The docker backend, imported only now: that takes a while."""
    from labs.engine.backends.docker.backend import open_docker

    return open_docker()


def show(finding: Finding) -> str:
    """A finding in one line, and its hint in a second."""
    state = "works" if finding.works else "does not work"
    hint = f"  to mend it: {finding.hint}\n" if finding.hint else ""
    return f"{finding.what}: {state}. {finding.detail}\n{hint}"


def describe_user() -> str:
    """Whether this is root or an ordinary user: the two ways to map ids."""
    return "as root" if os.geteuid() == 0 else f"as uid {os.geteuid()}"


def open_backend(opened: Callable[[], AbstractContextManager[Backend]]) -> str:
    """Open two hosts, listen on one, connect from the other, and read sock_diag."""
    with opened() as backend:
        reach(backend)
    return "Two hosts opened, joined, observed and closed"


def reach(backend: Backend) -> None:
    """Go through all that a lab needs of the backend; raises what a lab would meet."""
    # Addresses that other runs on the same engine hardly have.
    layout = Layout(os.getpid())
    plans = [layout.host("server"), layout.host("client")]
    for plan in plans:
        backend.open_host(plan)
    alice = layout.uid("alice")
    start_processes(backend, plans, alice)
    if (reached := reach_each(backend, plans, PORT)) != len(plans):
        raise EngineError(f"Only {reached} of {len(plans)} hosts can be reached.")
    for plan in plans:
        rows = backend.observe(plan.name).sockets
        owners = {row.uid for row in rows if row.state == "LISTEN"}
        if owners != {alice}:
            raise EngineError(f"sock_diag does not show the listener that is there: {owners}.")
