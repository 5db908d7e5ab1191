"""The keeper: the process that holds a run's namespaces and wires its hosts.

The chain of lives: the controlling process ends, however it ends, and the kernel kills the keeper
(PR_SET_PDEATHSIG); the keeper ends, and the kernel kills process 1's parent and it; with process 1
goes every process of its pid namespace, and with them all namespaces, links and mounts.

In the run's user namespace nobody may read what is the machine's root's, or in a folder that is one
user's alone; so all that has yet to be read of the project is read before anybody is in there.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labs.engine.agent import Stream, answer_to
from labs.engine.system import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    PR_SET_PDEATHSIG,
    prctl,
    stand_alone,
    unshare,
)

if TYPE_CHECKING:
    from labs.engine.agent import Message
    from labs.engine.backends.namespaces.network import Network

ROOT = Path(__file__).parents[4]
START_INIT = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from labs.engine.backends.namespaces.init import main; main(*map(int, sys.argv[2:]))"
)


def keep(channel: socket.socket, init_channel: socket.socket, controller: int) -> NoReturn:
    """What the keeper does from its fork to its end; never returns."""
    stream = Stream(channel)
    doing = "leave the controlling process"
    try:
        part_from(controller, channel.fileno(), init_channel.fileno())
        doing = "start process 1"
        gate, inits_gate = socket.socketpair()
        init_parent = start_init(init_channel, inits_gate)
        doing = "read the project"
        from labs.engine.backends.namespaces.network import open_network

        doing = "make a user namespace"
        unshare(CLONE_NEWUSER)
        stream.send({})
        if stream.receive() is None:
            os._exit(0)
        doing = "let process 1 begin"
        gate.send(b"\0")
        # Only now, so that process 1 starts while the kernel sets up the network.
        doing = "make a network namespace"
        unshare(CLONE_NEWNET)
        doing = "make a bridge"
        with open_network() as network:
            serve(stream, network)
        os.waitpid(init_parent, 0)
    except OSError as error:
        stream.send({"errno": error.errno, "doing": doing})
    except Exception as error:
        stream.send({"fault": f"{doing}: {type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def part_from(controller: int, *descriptors: int) -> None:
    """Be a process of its own that dies with the controlling one and holds nothing of it."""
    os.setsid()  # the terminal's signals are for the controlling process
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != controller:
        os._exit(0)
    gc.freeze()  # what the controlling process has made is no garbage to look for here
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    stand_alone(*descriptors)


def start_init(channel: socket.socket, gate: socket.socket) -> int:
    """Start the parent of process 1 in an interpreter of its own; its pid.

    It goes on when a byte comes through the gate.
    """
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        channel.close()
        gate.close()
        return pid
    try:
        for connection in (channel, gate):
            connection.set_inheritable(True)
        flags = ("-I", "-S", "-c", START_INIT)
        numbers = map(str, (channel.fileno(), gate.fileno(), keeper))
        os.execv(sys.executable, [sys.executable, *flags, str(ROOT), *numbers])
    except OSError as error:
        Stream(channel).send({"errno": error.errno, "doing": "start process 1"})
    finally:
        os._exit(1)


def serve(stream: Stream, network: Network) -> None:
    """Answer requests until the controlling process is gone."""
    while (request := stream.receive()) is not None:
        stream.send(answer_to(partial(answer, network), request))


def answer(network: Network, request: Message) -> Message:
    """Join a host to the run's network, or just answer."""
    match request:
        case {"do": "say that you live"}:
            return {}
        case {
            "do": "wire a host",
            "pid": int(pid),
            "ipv4": [str(ipv4), int(ipv4_prefix)],
            "ipv6": [str(ipv6), int(ipv6_prefix)],
        }:
            network.join(pid, [(ipv4, ipv4_prefix), (ipv6, ipv6_prefix)])
            return {}
    raise ValueError(request)
