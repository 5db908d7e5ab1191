"""Wires a run's hosts to one bridge: the adapter of pyroute2."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import sys
from typing import TYPE_CHECKING

# The package's own __init__ imports all that pyroute2 has. Routes alone take half the time, and
# every run waits for them; so the package is there without its __init__.
if "pyroute2" not in sys.modules and (found := importlib.util.find_spec("pyroute2")):
    sys.modules["pyroute2"] = type(sys)("pyroute2")
    sys.modules["pyroute2"].__path__ = found.submodule_search_locations or []

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from labs.engine.backends.namespaces.init import CLONE_NEWNET, setns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BRIDGE = "bindlab"
LINK = "eth0"
IFA_F_NODAD = 0x02


class Network:
    """A bridge in the network namespace of this process, to which hosts can be joined."""

    def __init__(self, routes: IPRoute, own_namespace: int) -> None:
        self._routes = routes
        self._own_namespace = own_namespace
        self._count = 0
        with converted():
            routes.link("add", ifname=BRIDGE, kind="bridge", state="up")
        self._bridge = socket.if_nametoindex(BRIDGE)

    def join(self, pid: int, addresses: Sequence[tuple[str, int]]) -> None:
        """Give the network namespace of process `pid` a link to the bridge with these addresses.

        Raises OSError with the kernel's errno.
        """
        self._count += 1
        with opened(f"/proc/{pid}/ns/net") as namespace:
            with converted():
                self._routes.link(
                    "add",
                    ifname=f"host{self._count}",
                    kind="veth",
                    master=self._bridge,
                    state="up",
                    peer={"ifname": LINK, "net_ns_fd": namespace},
                )
            with self._inside(namespace), converted(), IPRoute() as routes:
                configure(routes, addresses)

    @contextlib.contextmanager
    def _inside(self, namespace: int) -> Iterator[None]:
        """Be in another network namespace: a socket made there stays there."""
        setns(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(self._own_namespace, CLONE_NEWNET)


def configure(routes: IPRoute, addresses: Sequence[tuple[str, int]]) -> None:
    """Bring up LINK in the network namespace of `routes`."""
    index = socket.if_nametoindex(LINK)
    for address, prefix in addresses:
        # Without NODAD an IPv6 address cannot be bound for its first seconds.
        routes.addr("add", index=index, address=address, prefixlen=prefix, flags=IFA_F_NODAD)
    routes.link("set", index=index, state="up")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of a namespace's file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def converted() -> Iterator[None]:
    """Raise pyroute2's errors as OSError."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


@contextlib.contextmanager
def open_network() -> Iterator[Network]:
    """The network of a run, in the network namespace in which this process is; raises OSError."""
    with opened("/proc/self/ns/net") as own_namespace, IPRoute() as routes:
        yield Network(routes, own_namespace)
