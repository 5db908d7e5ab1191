"""The way into a host: its namespaces, and there a user's ids.

Whoever goes in is two processes. The first enters, the second is in the host's pid namespace and
becomes the user. Each ends with the one before it, so that none outlives the command.
"""

from __future__ import annotations

import json
import os
import select
import signal
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError
from labs.engine.system import PR_SET_PDEATHSIG, prctl, setns, take_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from labs.engine.play.ground import Person, Place

# In the order of nsenter(1): the user namespace first, whose owner may enter all others.
NAMESPACES = ("user", "ipc", "uts", "net", "pid", "mnt")
HOME = "/tmp"  # noqa: S108 - the hosts' own, where all may write
HEEDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE),
    *(signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGXFSZ, signal.SIGUSR1),
)
# Tells the first process to end with the second, which it has to wait for: who dies before its
# child leaves that to the machine's init, and no pid namespace ends while one of its is a zombie.
END = signal.SIGUSR2


class Lifeline:
    """What ends with this process, however that ends: the writing end of a pipe."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def hold(self, number: int = signal.SIGKILL) -> None:
        """The part of a child: get this signal when the process that made it ends.

        To be asked for again after each change of user (prctl(2), PR_SET_PDEATHSIG).
        """
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        prctl(PR_SET_PDEATHSIG, number)
        if select.select([self._reader], [], [], 0)[0]:
            os._exit(1)  # it had ended before

    def close(self) -> None:
        """The part of the one that made it, once its child is over."""
        os.close(self._reader)
        os.close(self._writer)


class Guest:
    """What was started on a host, as its parent out here sees it."""

    def __init__(self, pid: int, lifeline: Lifeline) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self._lifeline = lifeline

    def kill(self) -> None:
        """End it; `wait` returns when it has ended."""
        signal.pidfd_send_signal(self.pidfd, END)

    def signal(self, number: int) -> None:
        """Send it a signal, which the first process passes on to the second."""
        signal.pidfd_send_signal(self.pidfd, number)

    def wait(self) -> int:
        """Its exit status, as a shell would say it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self._lifeline.close()
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code


def start_inside(
    place: Place, person: Person, body: Callable[[], NoReturn], *, terminal: int | None = None
) -> Guest:
    """Run `body`, which executes a program, as a user on a host.

    It has the `terminal`, a descriptor, in the foreground where there is one. EngineError where the
    host is gone, or the program cannot be executed.
    """
    lifeline = Lifeline()
    errors, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(errors)
        go_in(place, person, body, terminal, lifeline, writer)
    os.close(writer)
    with open(errors) as file:
        text = file.read()
    guest = Guest(pid, lifeline)
    if text:
        guest.wait()
        doing, reason = json.loads(text)
        raise EngineError(f"Could not {doing}: {reason}.")
    return guest


def go_in(
    place: Place,
    person: Person,
    body: Callable[[], NoReturn],
    terminal: int | None,
    lifeline: Lifeline,
    errors: int,
) -> NoReturn:
    """What the first process does; never returns."""
    doing = f"enter the host {place.name}"
    try:
        signal.signal(END, signal.SIG_DFL)
        lifeline.hold(END)
        enter(place.pid)
        lifeline.hold(END)
        signal.pthread_sigmask(signal.SIG_BLOCK, [END])
        inner = Lifeline()
        second = os.fork()
        if second == 0:
            doing = f"be {person.name}"
            inner.hold()
            take_user(person.uid, person.capabilities)
            inner.hold()
            doing = "take the terminal"
            if terminal is not None:
                take_terminal(terminal)
            for number in HEEDED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            doing = "start a shell"
            body()
        os.close(errors)
        stand_by(second, terminal)
    except OSError as error:
        os.write(errors, json.dumps([doing, error.strerror]).encode())
    finally:
        os._exit(1)


def enter(pid: int) -> None:
    """Go to the namespaces of a process; what is forked from now on is in its pid namespace."""
    descriptors = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    for descriptor in descriptors:
        setns(descriptor, 0)
        os.close(descriptor)
    os.chdir(HOME)


def take_terminal(terminal: int) -> None:
    """Be a process group of its own, in the foreground of the terminal."""
    os.setpgid(0, 0)
    # It is not yet: to ask for it would stop it (tty_check_change()).
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(terminal, os.getpgrp())


def stand_by(second: int, terminal: int | None) -> NoReturn:
    """Wait for the second process's end, pass on signals, and end as it did."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda number, _frame: os.kill(second, number))
    signal.signal(END, lambda _number, _frame: os.kill(second, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [END])
    if terminal is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        _, status = os.waitpid(second, os.WUNTRACED if terminal is not None else 0)
        if not os.WIFSTOPPED(status):
            break
        # A shell that suspends itself would leave nobody at the terminal.
        os.kill(second, signal.SIGCONT)
    code = os.waitstatus_to_exitcode(status)
    os._exit(128 - code if code < 0 else code)
