"""Who is who in a run: users by number, and the uids of processes, inside and outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.pictures.scene import NOBODY, Figure
from labs.engine.strace import TOLD
from labs.engine.users import number_users

if TYPE_CHECKING:
    from labs.engine.model import CallMade, Evidence, ProcessStarted


class People:
    """The processes of a run, as figures.

    A process says its uid with each call, as its own user namespace numbers it; evidence says it as
    the run's does. Who is seen to have two of them is in a user namespace of its own. `processes`
    are all that were started, by name.
    """

    def __init__(self) -> None:
        self.processes: dict[str, ProcessStarted] = {}
        self._users: dict[str, int] = {}
        self._owners: dict[int, int] = {}  # the number of the user who has a uid
        self._said: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        self._outside: dict[str, dict[int, int]] = {}  # by the uid inside

    def start(self, event: ProcessStarted) -> None:
        """A process is there; a child is in its parent's user namespace."""
        self.processes[event.process] = event
        self._users = number_users([*self._users, event.user])
        if event.parent in self._outside:
            self._outside[event.process] = dict(self._outside[event.parent])

    def hear(self, call: CallMade) -> None:
        """A process has made a call; what has taken its place has uids of its own."""
        if call.call.startswith(TOLD):
            self._said.pop(call.process, None)
        else:
            self._said[call.process] = call.uid

    def see(self, evidence: Evidence) -> None:
        """The kernel has said who is who on a host."""
        for socket in evidence.sockets:
            if socket.user in self._users:
                self._owners[socket.row.uid] = self._users[socket.user]
        for process in evidence.processes:
            name, uid = process.name, process.credentials.effective
            self._seen[name] = uid
            said = self._said.get(name, uid)
            if said != uid or name in self._outside:
                self._outside.setdefault(name, {})[said] = uid
            elif name in self.processes and uid == self.processes[name].credentials.effective:
                self._owners.setdefault(uid, self._users[self.processes[name].user])

    def number(self, user: str) -> int:
        """The number of a user, NOBODY for one whom the run does not name."""
        return self._users.get(user, NOBODY)

    def figure(self, name: str, said: int | None = None) -> Figure:
        """A process as it is now, or as it was when it said that it had this uid."""
        started = self.processes.get(name)
        if started is None:
            return Figure(name, NOBODY)
        said = self._said.get(name) if said is None else said
        if said is None:
            uid = self._seen.get(name, started.credentials.effective)
            return Figure(name, self._owner(started, uid), uid)
        if name not in self._outside:
            return Figure(name, self._owner(started, said), said)
        outer = self._outside[name].get(said)
        if outer is None:
            return Figure(name, self._users[started.user])
        return Figure(name, self._owner(started, outer), outer, None if outer == said else said)

    def _owner(self, started: ProcessStarted, uid: int) -> int:
        """Whose uid it is; a process begins with its user's."""
        own = self._users[started.user]
        if uid == started.credentials.effective:
            return own
        return self._owners.get(uid, own if started.process in self._outside else NOBODY)
