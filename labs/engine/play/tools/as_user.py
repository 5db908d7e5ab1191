"""`as USER[@HOST] [COMMAND ...]`: a command of another user's, from root's shell."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

from labs.engine.play.tools.channel import ask
from labs.engine.system import take_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

USAGE = """usage: as USER [COMMAND ...]
       as USER@HOST COMMAND ...

Runs a command as another user, here or on another host; without one, a shell.
"""
FOLDER = "/run/bindlab"
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def main() -> None:
    """Become the user, or let it be done where the host is."""
    words = sys.argv[1:]
    user, _, host = words[0].partition("@") if words else ("", "", "")
    if not user or user.startswith("-") or (host and not words[1:]):
        sys.stderr.write(USAGE)
        sys.exit(2)
    with open(f"{FOLDER}/users.json") as file:
        users = json.load(file)
    if user not in users:
        sys.exit(f"as: There is no user {user}; there are {', '.join(users)}.")
    if os.geteuid():
        sys.exit("as: Only root may become another user.")
    if host and host != os.uname().nodename:
        sys.exit(run_elsewhere(user, host, words[1:]))
    run_here(user, users[user], words[1:])


def run_here(user: str, known: dict[str, object], command: Sequence[str]) -> NoReturn:
    """Be the user from here on, with the capabilities that it has in this playground."""
    uid, capabilities, prompt = known["uid"], known["capabilities"], known["prompt"]
    assert isinstance(uid, int)
    assert isinstance(capabilities, int)
    take_user(uid, capabilities)
    shown = str(prompt).replace("HOST", os.uname().nodename)
    os.environ |= {"USER": user, "LOGNAME": user, "BINDLAB_PROMPT": shown, "PS1": shown}
    words = [*command] or [os.environ["SHELL"], *os.environ["BINDLAB_SHELL"].split()]
    try:
        os.execvp(words[0], words)
    except OSError as error:
        sys.exit(f"as: {words[0]}: {error.strerror}")


def run_elsewhere(user: str, host: str, command: Sequence[str]) -> int:
    """Let it be run on another host, with this process's terminal; its exit status."""
    request: dict[str, object] = {"do": "run", "user": user, "host": host, "command": [*command]}
    try:
        answer = ask(request, (0, 1, 2))
    except OSError:
        sys.exit("as: The command that opened this shell is gone.")

    def pass_on(number: int, _frame: object) -> None:
        answer.send(bytes([number]))

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    text = b""
    while data := answer.recv(4096):
        text += data
    answer.shutdown(socket.SHUT_RDWR)
    found = json.loads(text or b"{}")
    if "error" in found:
        sys.exit(f"as: {found['error']}")
    return int(found.get("status", 1))
