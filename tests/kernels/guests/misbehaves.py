"""Gets as far as a lab's start, and then does what the test has asked for as the lab's name."""

import os
import time

from labs.engine.kernels import guest
from labs.engine.model import RunStarted
from labs.engine.record import SCHEMA, event_line
from tests.kernels.guests.common import be_ready


def exhaust_memory() -> None:
    """Take all memory there is and more, in the one process that the kernel cannot spare."""
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1) * (1 << 20)))


def crash() -> None:
    """Let the kernel crash (sysrq)."""
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("c\n")


def misbehave(channel: guest.Channel, how: str) -> None:
    """Do it."""
    match how:
        case "die":
            raise SystemExit("the guest gives up")
        case "crash":
            crash()
        case "memory":
            exhaust_memory()
        case "nonsense":
            os.write(channel._descriptor, b"nonsense\n")
        case "array":
            os.write(channel._descriptor, b"[1]\n")
        case "event":
            channel.send({"event": "step_started", "schema": SCHEMA})
        case "pass":  # a good end without a run that has ended so
            channel.send({"end": 0})
        case "endless":
            os.write(channel._descriptor, b"x" * (1 << 25))
    time.sleep(1000)


channel = be_ready()
request = channel.receive()
assert request
started = RunStarted("x", "x", "", "0", "namespaces", os.uname().release, "", None, "")
channel.send(event_line(started))
misbehave(channel, str(request["lab"]))
