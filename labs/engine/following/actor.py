"""Who makes calls: a process, with what the rules ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.rules.calls import User
from labs.engine.rules.sockets import NOBODY

if TYPE_CHECKING:
    from labs.engine.model import Credentials
    from labs.engine.plans import ProcessPlan, StartedProcess

AS_IT_IS = -1  # of fchown(2)
# Calls after which a process's capabilities are not what they were: see capabilities(7).
CHANGE_UIDS = frozenset({"seteuid", "setuid", "setreuid", "setresuid", "setfsuid"})


@dataclass
class Actor:
    """A process of a run that an agent drives.

    `namespace` is the network namespace in which it makes sockets now, None where that is not
    known; `capabilities` are those that count there, None where they are not known. `outer_uid` is
    what its uid `inner_uid` stands for outside of its user namespace.
    """

    name: str
    pid: int
    host: str
    namespace: str | None
    credentials: Credentials
    capabilities: frozenset[str] | None
    inner_uid: int
    outer_uid: int | None

    @staticmethod
    def of(plan: ProcessPlan, started: StartedProcess) -> Actor:
        """A process as it has started."""
        # Those of a user namespace below the host's count for nothing on the host.
        counting = frozenset(plan.capabilities) if plan.outer_uid is None else frozenset[str]()
        return Actor(
            *(plan.name, started.pid, plan.host, plan.host, started.credentials),
            *(counting, plan.uid, plan.outer_uid),
        )

    def forked(self, name: str, started: StartedProcess) -> Actor:
        """Its child."""
        return Actor(
            *(name, started.pid, self.host, self.namespace, started.credentials),
            *(self.capabilities, self.inner_uid, self.outer_uid),
        )

    def kuid(self, uid: int) -> int:
        """A uid of its user namespace as the kernel has it."""
        if self.outer_uid is None:
            return uid
        return self.outer_uid if uid == self.inner_uid else NOBODY

    @property
    def user(self) -> User:
        """As whom it makes a socket: its file-system uid (sock_alloc())."""
        owner = self.kuid(self.credentials.filesystem)
        return User(self.name, owner, self.namespace or "", self.capabilities or frozenset())

    def called(self, name: str, credentials: Credentials) -> None:
        """It has made a call that was not refused."""
        if name in CHANGE_UIDS and self.capabilities:
            self.capabilities = None
        self.credentials = credentials
