"""sock_diag(7) of the fake backend."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.backends.fake_kernel import FakeSocket

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(eq=False)
class FakeDiag(FakeSocket):
    """A socket of sock_diag(7): tells of the listeners on one port, whatever else it is asked.

    `number_of` says how the asker's user namespace numbers a uid.
    """

    number_of: Callable[[int], int] = field(kw_only=True)

    def send(self, text: str) -> int:
        """Keep the answer to a request, which recv() reads."""
        request = text.encode("latin-1")
        family, port = request[16], int.from_bytes(request[24:26], "big")
        found = [
            struct.pack("=IHHII64xII", 88, 20, 2, 0, 0, self.number_of(other.uid), other.inode)
            for other in self.host.sockets
            if (other.state, other.family, other.local[1]) == ("LISTEN", family, port)
        ]
        done = struct.pack("=IHHIIi", 20, 3, 2, 0, 0, 0)
        self.received = [b"".join((*found, done)).decode("latin-1")]
        return len(request)
