"""How the server makes its system calls, and shows what the kernel answers."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Refused(Exception):
    """A call that the kernel has refused, and that was shown."""


def show(shown: str, call: Callable[..., Any], *arguments: object) -> Any:
    """Make a call, show it as strace(1) would, return what it gives; raises Refused."""
    try:
        value = call(*arguments)
    except OSError as error:
        number = error.errno or 0
        name = errno.errorcode.get(number, str(number))
        say(f"{shown} = -1 {name} ({os.strerror(number)})", refused=True)
        raise Refused from None
    say(f"{shown} = {0 if value is None else value}")
    return value


def say(text: str, *, refused: bool = False) -> None:
    """Write a line, with the user and the pid; a refusal in red on a terminal."""
    if refused and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\033[1;31m{text}\033[0m"
    with contextlib.suppress(OSError):  # the terminal may be closed
        os.write(1, f"{who()}  {text}\n".encode())


def who() -> str:
    """The effective user and the pid, such as `alice/17`."""
    return f"{name_of(os.geteuid())}/{os.getpid()}"


def name_of(uid: int) -> str:
    """A user's name, or the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def uid_of(user: str) -> int:
    """The uid of a name, or of a number."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        sys.exit(f"server: There is no user {user}.")


def show_address(address: Any) -> str:
    """An address and a port, as ss(8) shows them."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
