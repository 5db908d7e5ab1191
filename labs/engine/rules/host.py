"""What a network namespace has that a bind() asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labs.engine.rules.sockets import Address

LOOPBACK_IPV4 = 127


@dataclass(frozen=True)
class Host:
    """A network namespace: its addresses besides 127.0.0.0/8, its devices, its first free port.

    Below `unprivileged_port_start` a port takes CAP_NET_BIND_SERVICE.
    """

    addresses: frozenset[Address]
    devices: frozenset[str] = field(default_factory=lambda: frozenset({"lo"}))
    unprivileged_port_start: int = 1024

    def has(self, address: Address) -> bool:
        """Whether an address is one of its own, or a wildcard."""
        if not address.number or address in self.addresses:
            return True
        return address.is_ipv4 and address.number >> 24 == LOOPBACK_IPV4
