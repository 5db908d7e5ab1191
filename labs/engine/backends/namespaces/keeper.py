"""The keeper: the process that holds a run's namespaces and wires its hosts.

The chain of lives: the controlling process ends, however it ends, and the kernel kills the keeper
(PR_SET_PDEATHSIG); the keeper ends, and the kernel kills process 1 of the run; with that one goes
every process of its pid namespace, and with them all namespaces, links and mounts.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labs.engine.agent import (
    CLONE_NEWUSER,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_SET_PDEATHSIG,
    Stream,
    answer_to,
    list_bits,
    prctl,
    set_capabilities,
    unshare,
)
from labs.engine.backends.namespaces import init

if TYPE_CHECKING:
    import socket

    from labs.engine.agent import Message
    from labs.engine.backends.namespaces.network import Network

ROOT = Path(__file__).parents[4]
START_INIT = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from labs.engine.backends.namespaces.init import main; main(int(sys.argv[2]))"
)


def keep(channel: socket.socket, init_channel: socket.socket, controller: int) -> NoReturn:
    """What the keeper does from its fork to its end; never returns."""
    stream = Stream(channel)
    doing = "leave the controlling process"
    try:
        part_from(controller, channel.fileno(), init_channel.fileno())
        doing = "make a user namespace"
        unshare(CLONE_NEWUSER)
        stream.send({})
        if stream.receive() is None:
            os._exit(0)
        doing = "make a pid namespace"
        unshare(init.CLONE_NEWPID)
        doing = "start process 1"
        init_pid = start_init(init_channel)
        # Only now, so that process 1 starts while the kernel sets up the network.
        doing = "make a network namespace"
        unshare(init.CLONE_NEWNET)
        doing = "make a bridge"
        serve(stream)
        os.waitpid(init_pid, 0)
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
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    low = 3
    for descriptor in sorted(descriptors):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def start_init(channel: socket.socket) -> int:
    """Start process 1 of the new pid namespace in an interpreter of its own; its pid out here."""
    pid = os.fork()
    if pid:
        channel.close()
        return pid
    try:
        pass_on_capabilities()
        channel.set_inheritable(True)
        flags = ["-I", "-S", "-c", START_INIT]
        os.execv(sys.executable, [sys.executable, *flags, str(ROOT), str(channel.fileno())])
    except OSError as error:
        Stream(channel).send({"errno": error.errno, "doing": "start process 1"})
    finally:
        os._exit(1)


def pass_on_capabilities() -> None:
    """Let the next program have this process's capabilities: its uid is none of the namespace."""
    everything = init.read_all_capabilities()
    set_capabilities(everything, everything)
    for capability in list_bits(everything):
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def serve(stream: Stream) -> None:
    """Answer requests until the controlling process is gone."""
    from labs.engine.backends.namespaces.network import open_network

    with open_network() as network:
        while (request := stream.receive()) is not None:
            stream.send(answer_to(partial(wire, network), request))


def wire(network: Network, request: Message) -> Message:
    """Join a host to the run's network."""
    match request:
        case {
            "do": "wire a host",
            "pid": int(pid),
            "ipv4": [str(ipv4), int(ipv4_prefix)],
            "ipv6": [str(ipv6), int(ipv6_prefix)],
        }:
            network.join(pid, [(ipv4, ipv4_prefix), (ipv6, ipv6_prefix)])
            return {}
    raise ValueError(request)
