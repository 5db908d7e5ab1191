"""A shell in a playground: a child of this command, in its terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import termios
from typing import TYPE_CHECKING, NoReturn

from labs.engine.errors import BindlabError, EngineError
from labs.engine.play.entrance import HOME, start_inside
from labs.engine.play.furnishing import RCFILE, TOOLS
from labs.engine.play.prompt import make_plain_prompt, make_prompt
from labs.engine.play.sheet import show_on_sheet
from labs.engine.play.tools.channel import CHANNEL
from labs.engine.play.visit import HAS_ENDED
from labs.engine.spawned import PROGRAM_FOLDERS, find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from labs.engine.play.entrance import Guest
    from labs.engine.play.ground import Person, Place
    from labs.engine.play.visit import Visit

IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
PASSED_ON = ("TERM", "LANG", "LC_ALL", "NO_COLOR", "COLORTERM", "GLIBC_TUNABLES", "OPENSSL_ia32cap")


class Shell:
    """Runs a shell as one user on one host, and does meanwhile what is asked from inside."""

    def __init__(self, visit: Visit, place: Place, person: Person, language: str) -> None:
        self._visit = visit
        self._place = place
        self._person = person
        self._language = language
        # Each message is one request.
        self._channel, self._inside = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errands: dict[int, Errand] = {}

    def run(self, command: str | None) -> int:
        """Run a command line, or without one a shell at the terminal; the exit status."""
        words = ["/bin/sh", "-c", command] if command is not None else find_shell()
        terminal = None if command is not None else sys.stdin.fileno()
        variables = self._environment(self._place, self._person)
        body = executing(words, variables, self._inside.fileno())
        with signals_ignored(), terminal_given_back(terminal):
            shell = start_inside(self._place, self._person, body, terminal=terminal)
            self._inside.close()
            try:
                self._attend(shell)
            finally:
                shell.kill()
                status = shell.wait()
                self._end_errands()
        if not is_alive(self._visit):
            raise EngineError(HAS_ENDED)
        return status

    def _attend(self, shell: Guest) -> None:
        """Answer what is asked from inside, until the shell has ended."""
        while True:
            errands = {errand.guest.pidfd: errand for errand in self._errands.values()}
            waited_for = [shell.pidfd, self._channel.fileno(), *errands, *self._errands]
            ready, _, _ = select.select(waited_for, [], [])
            for descriptor in ready:
                if descriptor in errands:
                    self._finish(errands[descriptor])
                elif descriptor in self._errands:
                    self._errands[descriptor].pass_on()
            if shell.pidfd in ready:
                return
            if self._channel.fileno() in ready:
                self._answer()

    def _answer(self) -> None:
        """Take the next request; what is wrong with it is said where it was asked."""
        data, descriptors, _, _ = socket.recv_fds(self._channel, 1 << 16, 4)
        if not descriptors:
            return
        answer, *streams = descriptors
        connection = socket.socket(fileno=answer)
        try:
            match json.loads(data):
                case {"do": "evidence", "port": int(port), "terminal": bool(colour)}:
                    connection.sendall(self._show(port, colour=colour).encode())
                case {"do": "run", "user": str(user), "host": str(host), "command": list(command)}:
                    self._run_errand(
                        connection, user, host, [str(word) for word in command], streams
                    )
                    return
        except BindlabError as error:
            with contextlib.suppress(OSError):
                connection.sendall(f"{error.message}\n".encode())
        except (OSError, ValueError):
            pass  # whoever asked has left, or asked nothing that can be read
        finally:
            for descriptor in streams:
                os.close(descriptor)
        connection.close()

    def _show(self, port: int, *, colour: bool) -> str:
        """The evidence of this host, of one port where it is not 0."""
        evidence = self._visit.observe(self._place.name)
        ground = self._visit.ground
        return show_on_sheet(ground, [evidence], port, self._language, colour=colour)

    def _run_errand(
        self,
        connection: socket.socket,
        user: str,
        host: str,
        command: Sequence[str],
        streams: Sequence[int],
    ) -> None:
        """Start a command on another host, for root's shell alone."""
        try:
            if self._person.uid:
                raise EngineError("Only root's shell may do that.")
            place, person = self._visit.ground.host(host), self._visit.ground.user(user)
            variables = self._environment(place, person)
            body = executing(command, variables, -1, streams)
            guest = start_inside(place, person, body)
        except BindlabError as error:
            connection.sendall(json.dumps({"error": error.message}).encode())
            connection.close()
            return
        self._errands[connection.fileno()] = Errand(connection, guest)

    def _finish(self, errand: Errand) -> None:
        del self._errands[errand.connection.fileno()]
        errand.finish()

    def _end_errands(self) -> None:
        for errand in [*self._errands.values()]:
            errand.guest.kill()
            self._finish(errand)

    def _environment(self, place: Place, person: Person) -> dict[str, str]:
        """What a program finds in its environment there."""
        shell, *options = find_shell()
        prompt = make_prompt(self._visit.ground, person, place.name)
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return kept | {
            "PATH": ":".join((TOOLS, *PROGRAM_FOLDERS)),
            "HOME": HOME,
            "USER": person.name,
            "LOGNAME": person.name,
            "SHELL": shell,
            "PS1": make_plain_prompt(person, place.name),
            "BINDLAB_PROMPT": prompt,
            "BINDLAB_SHELL": " ".join(options),
        }


class Errand:
    """A command of root's that runs on another host."""

    def __init__(self, connection: socket.socket, guest: Guest) -> None:
        self.connection = connection
        self.guest = guest

    def pass_on(self) -> None:
        """Pass on the signals that have come; where whoever asked is gone, end the command."""
        with contextlib.suppress(OSError):
            numbers = self.connection.recv(16)
            for number in numbers:
                self.guest.signal(number)
            if not numbers:
                self.guest.kill()

    def finish(self) -> None:
        """Say how it has ended."""
        with self.connection, contextlib.suppress(OSError):
            self.connection.sendall(json.dumps({"status": self.guest.wait()}).encode())


def find_shell() -> list[str]:
    """A bash with settings of its own, and sh where there is none."""
    try:
        return [find_program("bash"), "--rcfile", RCFILE, "-i"]
    except FileNotFoundError:
        return ["/bin/sh", "-i"]


def executing(
    words: Sequence[str],
    variables: dict[str, str],
    channel: int,
    streams: Sequence[int] = (),
) -> Callable[[], NoReturn]:
    """What executes a program, which gets the channel, and these for its standard streams."""

    def body() -> NoReturn:
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        if channel >= 0:
            os.dup2(channel, CHANNEL)
        os.execvpe(words[0], list(words), variables)

    return body


def is_alive(visit: Visit) -> bool:
    """Whether the playground is still there: it says nothing unasked, but for its end."""
    return not select.select([visit.fileno()], [], [], 0)[0]


@contextlib.contextmanager
def signals_ignored() -> Iterator[None]:
    """Leave the terminal's signals to what runs in it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def terminal_given_back(terminal: int | None) -> Iterator[None]:
    """Have the terminal again afterwards, as it was; SIGTTOU has to be ignored."""
    if terminal is None:
        yield
        return
    settings = termios.tcgetattr(terminal)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):  # it may be closed
            os.tcsetpgrp(terminal, os.getpgrp())
            termios.tcsetattr(terminal, termios.TCSADRAIN, settings)
