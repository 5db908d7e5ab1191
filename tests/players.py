"""Types in the shells of a playground as a person does, each in a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import re
import struct
import termios
from typing import TYPE_CHECKING

from tests.support import Terminal, open_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.play.transcript import Entry

ROWS, COLUMNS = 50, 200
PATIENCE = 60.0  # seconds: for a command that makes hundreds of connections, on a busy machine


class Shells:
    """One shell for each user on each host, opened when something is first typed in it."""

    def __init__(self, stack: contextlib.ExitStack, token: str, *options: str) -> None:
        self._stack = stack
        self._token = token
        self._options = options
        self._shells: dict[tuple[str, str], Terminal] = {}

    def open(self, user: str, host: str) -> Terminal:
        """The shell of a user on a host, at its prompt."""
        if (user, host) not in self._shells:
            names = ("--user", user, "--host", host)
            opened = open_terminal("play", *self._options, *names, token=self._token)
            shell = self._stack.enter_context(opened)
            size = struct.pack("4H", ROWS, COLUMNS, 0, 0)
            fcntl.ioctl(shell._master, termios.TIOCSWINSZ, size)
            shell.read_until(prompt(user, host), PATIENCE)
            self._shells[user, host] = shell
        return self._shells[user, host]

    def retype(self, entry: Entry) -> None:
        """Type a command; wait for all that is to come, in this order, and for the prompt."""
        shell = self.open(entry.user, entry.host)
        typed(shell, entry.command, *entry.patterns(), prompt=prompt(entry.user, entry.host))


def prompt(user: str, host: str) -> str:
    """The pattern of a shell's prompt."""
    return re.escape(f"{user}@{host}{'$' if user != 'root' else '#'} ")


def typed(shell: Terminal, command: str, *patterns: str, prompt: str) -> str:
    """Type a command, wait for the patterns in this order and for the prompt; what has come."""
    shell.read_for(0)
    shell._seen = len(shell.output)
    shell.type(f"{command}\n")
    shell.read_until("\n", PATIENCE)  # the command itself
    start = shell._seen
    for pattern in patterns:
        shell.read_until(pattern, PATIENCE)
    shell._seen = start
    shell.read_until(prompt, PATIENCE)
    return shell.output[start:]


@contextlib.contextmanager
def open_shells(token: str, *options: str) -> Iterator[Shells]:
    """The shells of a playground that is opened with these options."""
    with contextlib.ExitStack() as stack:
        yield Shells(stack, token, *options)
