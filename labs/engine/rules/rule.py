"""What a rule is: a name, a source and a sentence; and the kinds of rules that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.rules.bucket import Bucket
    from labs.engine.rules.calls import Call, User
    from labs.engine.rules.host import Host
    from labs.engine.rules.sockets import Address, Socket
    from labs.engine.rules.world import World

    Version: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """A rule: its name, the kernel's function that has it, and a sentence on it.

    It is in kernels from version `since` on, in those before `until` where that is given.
    """

    name: str
    source: str
    sentence: str
    since: Version = ()
    until: Version = ()

    def is_in(self, version: Version) -> bool:
        """Whether a kernel has this rule."""
        return version >= self.since and not (self.until and version >= self.until)


@dataclass(frozen=True)
class Check(Rule):
    """A rule that refuses a call with `errno`, whoever else is on the port."""

    errno: str = ""
    refuses: Callable[[Request], bool] = lambda _: False


@dataclass(frozen=True)
class CallCheck(Rule):
    """A rule that refuses a call other than bind() with `errno`."""

    errno: str = ""
    refuses: Callable[[Call, World], bool] = lambda *_: False


@dataclass(frozen=True)
class Recall(Rule):
    """A rule that lets a socket onto a port without a look at those who are there."""

    admits: Callable[[Bucket, Socket, bool], bool] = lambda *_: False


@dataclass(frozen=True)
class Share(Rule):
    """A rule that lets two sockets be on one port: the one that comes, and one that is there.

    Where it `is_final`, the kernel looks at nobody else once it has let somebody in.
    """

    admits: Callable[[Socket, Socket], bool] = lambda *_: False
    is_final: bool = False


class Request(NamedTuple):
    """A bind() that is asked for."""

    user: User
    socket: Socket
    address: Address
    port: int
    host: Host
