"""`evidence [PORT]`: what the kernel says of this host, as a lab's step shows it."""

from __future__ import annotations

import os
import sys

from labs.engine.play.tools.channel import ask

USAGE = (
    "usage: evidence [PORT]\n\nThe sockets of this host, all or of one port, and who holds them.\n"
)


def main() -> None:
    """Ask for the evidence, and write it."""
    words = sys.argv[1:]
    if len(words) > 1 or not all(word.isdigit() for word in words):
        sys.stderr.write(USAGE)
        sys.exit(2)
    request: dict[str, object] = {
        "do": "evidence",
        "port": int(words[0]) if words else 0,
        "terminal": sys.stdout.isatty(),
    }
    try:
        with ask(request) as answer:
            while data := answer.recv(1 << 16):
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(1)
    except OSError:
        sys.exit("evidence: The command that opened this shell is gone.")
