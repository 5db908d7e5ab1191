"""What a follower keeps of a run: the world of the rules, and what leads from a run to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labs.engine.following.files import Files
from labs.engine.following.port import Port
from labs.engine.rules.sockets import LISTEN
from labs.engine.rules.world import place_of

if TYPE_CHECKING:
    from labs.engine.following.actor import Actor
    from labs.engine.following.files import OpenSocket
    from labs.engine.plans import HostPlan
    from labs.engine.rules.host import Host
    from labs.engine.rules.sockets import Socket
    from labs.engine.rules.world import Place, World


@dataclass
class State:
    """A run as it is followed; sockets of the world go by names.

    `targets` are what clients have connected to, by their socket; `serving` the listener and the
    way of a process that serves; `strangers` the namespaces where sockets may be that no agent
    made. `made` counts what was given a name.
    """

    world: World
    plans: dict[str, HostPlan] = field(default_factory=dict)
    actors: dict[str, Actor] = field(default_factory=dict)
    files: Files = field(default_factory=Files)
    ports: defaultdict[Place, Port] = field(default_factory=lambda: defaultdict(Port))
    targets: dict[str, tuple[str, int]] = field(default_factory=dict)
    serving: dict[str, tuple[int, str]] = field(default_factory=dict)
    strangers: set[str] = field(default_factory=set)
    made: int = 0

    def known(self, found: OpenSocket | None) -> Socket | None:
        """The world's socket for one of a descriptor; None where there is none."""
        return self.world.sockets.get(found.name) if found else None

    def find(self, actor: Actor, descriptor: int) -> Socket | None:
        """The world's socket for a process's descriptor; None where there is none."""
        return self.known(self.files.find(actor.name, descriptor))

    def change(self, socket: Socket) -> None:
        """A socket of the world is another."""
        self.world = self.world.with_socket(socket)
        if socket.state is LISTEN and socket.port > 0:
            # What connections take from it that come from now on.
            self.ports[place_of(socket)].origins.add(socket._replace(listener=""))

    def actor_of(self, host: str, pid: int) -> Actor | None:
        """The process of a host that has this pid there; None where no agent drives it."""
        own = (actor for actor in self.actors.values() if actor.host == host)
        return next((actor for actor in own if actor.pid == pid), None)


def with_host(world: World, name: str, host: Host) -> World:
    """The world with a network namespace that is new, or has changed."""
    return replace(world, hosts={**world.hosts, name: host})
