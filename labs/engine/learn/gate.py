"""Who may come in: whoever has the token, on this machine, and not by way of another page.

Pure: it sees a request's parts, and says what is wrong with them.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "token"  # noqa: S105  # the name of the address's parameter
NAMES = ("127.0.0.1", "localhost")

# Nothing from elsewhere, and no page of elsewhere around it. xterm.js writes styles of its own.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self' data:; connect-src {sources}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Gate:
    """The way in, at a port of this machine; the token is drawn anew for each server."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def url(self) -> str:
        """What the trainee opens."""
        return f"http://127.0.0.1:{self.port}/?{TOKEN}={self.token}"

    @property
    def cookie(self) -> str:
        """The cookie's name: ports of one machine share their cookies, each server has its own."""
        return f"bindlab-{self.port}"

    @property
    def hosts(self) -> list[str]:
        """What a browser calls this server."""
        return [f"{name}:{self.port}" for name in NAMES]

    @property
    def headers(self) -> dict[str, str]:
        """What every answer says to the browser."""
        sources = " ".join(["'self'", *(f"ws://{host}" for host in self.hosts)])
        return {
            "Content-Security-Policy": POLICY.format(sources=sources),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    def find_fault(
        self,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        cookies: Mapping[str, str],
        *,
        is_socket: bool,
    ) -> str:
        """Why a request is not let in; empty where it is."""
        if headers.get("Host") not in self.hosts:
            return "Another name than that of this machine was asked for."
        origin = headers.get("Origin")
        if (is_socket or origin is not None) and origin not in [f"http://{h}" for h in self.hosts]:
            return "It was asked for from another page."
        if not any(self._is_token(given) for given in (query.get(TOKEN), cookies.get(self.cookie))):
            return "The token is missing, or is another one: open the address that was printed."
        return ""

    def gives_token(self, query: Mapping[str, str]) -> bool:
        """Whether the token is in the address, and a cookie is to be given for it."""
        return self._is_token(query.get(TOKEN))

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())
