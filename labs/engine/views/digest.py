"""What is worth showing of a step: calls that repeat once, sockets that are alike as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.capabilities import capability_names
from labs.engine.strace import TOLD, show_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from labs.engine.model import CallMade, ProcessEvidence, SocketEvidence

MANY_CALLS = 12
COLUMNS = ("socket", "state", "owner", "held by", "reuse", "queue", "inode")


def condensed(calls: Sequence[CallMade]) -> list[tuple[CallMade, int]]:
    """The calls of a step and how often each was made; many of one kind as the first of them."""
    return [(call, 1) for call in calls] if len(calls) <= MANY_CALLS else repeated(calls)


def repeated(calls: Iterable[CallMade]) -> list[tuple[CallMade, int]]:
    """The first call of each kind that each process made, and how many there were.

    Descriptors differ from call to call, and are of one kind; what was read is not.
    """
    groups: dict[object, list[CallMade]] = {}
    for call in calls:
        name = call.call.partition("(")[0]
        text = call.result if call.result.startswith('"') else ""
        groups.setdefault((call.process, name, call.errno, text), []).append(call)
    return [(group[0], len(group)) for group in groups.values()]


@dataclass(frozen=True)
class SocketGroup:
    """Sockets that differ in their client's port alone: the first of them and their number.

    `is_served` is whether others on the host share the local port, as with a server's sockets.
    """

    first: SocketEvidence
    count: int
    is_served: bool

    @property
    def local(self) -> str:
        """The local end; the port is a `*` where the sockets have different ones."""
        host, port = show_address(self.first.row.local).rsplit(":", 1)
        return f"{host}:{port if self.is_served or self.count == 1 else '*'}"

    @property
    def peer(self) -> str:
        """The other end."""
        return show_address(self.first.row.peer)


def grouped(sockets: Sequence[SocketEvidence]) -> list[SocketGroup]:
    """Listeners one by one, connections together that differ in the client's port alone."""
    local_ports = Counter([evidence.row.local[1] for evidence in sockets])
    groups: dict[object, list[SocketEvidence]] = {}
    for evidence in sockets:  # tens of thousands, in some steps
        row = evidence.row
        local, peer = row.local, row.peer
        key: object
        if not peer[1]:
            key = (row.inode, local)
        elif local_ports[local[1]] > 1:
            key = (local, peer[0], row.state, row.protocol, evidence.user, evidence.holders)
        else:
            key = (local[0], peer, row.state, row.protocol, evidence.user, evidence.holders)
        found = groups.get(key)
        if found is None:
            groups[key] = [evidence]
        else:
            found.append(evidence)
    return [make_group(alike, local_ports) for alike in groups.values()]


def make_group(alike: Sequence[SocketEvidence], local_ports: Mapping[int, int]) -> SocketGroup:
    """The group of sockets that are alike."""
    first = alike[0]
    is_served = not first.row.peer[1] or local_ports[first.row.local[1]] > 1
    return SocketGroup(first, len(alike), is_served)


def socket_cells(group: SocketGroup, times: str = "×", arrow: str = "→") -> list[str]:
    """What COLUMNS say of sockets; a dash where there is nothing to say."""
    first, count = group.first, group.count
    row = first.row
    is_listener = row.state == "LISTEN"
    in_time_wait = row.state == "TIME_WAIT" and row.expires
    state = f"{row.state} {row.expires / 1000:.1f} s" if in_time_wait else row.state
    options = {"addr": first.reuseaddr, "port": first.reuseport}
    ends = group.local if group.is_served else f"{group.local} {arrow} {group.peer}"
    return [
        f"{row.protocol} {ends}",
        f"{state} {times} {count}" if count > 1 else state,
        f"{first.user}/{row.uid}" if first.user else "-",
        ", ".join(first.holders) or "-",
        " ".join(name for name, value in options.items() if value) or "-",
        f"{row.receive_queue}/{row.send_queue}" if is_listener else str(row.receive_queue),
        str(row.inode) if row.inode and count == 1 else "-",
    ]


def acting_uids(calls: Iterable[CallMade]) -> Mapping[str, int]:
    """The uid of each process that made calls, as its own user namespace numbers it.

    What has taken a process's place has uids of its own by then, and is left out.
    """
    return {call.process: call.uid for call in calls if not call.call.startswith(TOLD)}


def is_mixed(process: ProcessEvidence) -> bool:
    """Whether a process's four uids are not all the same."""
    uids = process.credentials
    return len({uids.real, uids.effective, uids.saved, uids.filesystem}) > 1


def is_unusual(process: ProcessEvidence) -> bool:
    """Whether this is a root without any capability, or another user with one."""
    return (process.credentials.effective == 0) != bool(process.capabilities)


def show_credentials(process: ProcessEvidence) -> str:
    """A process's uids and capabilities, in one line."""
    uids = process.credentials
    shown = ", ".join(capability_names(process.capabilities)) or "none"
    if is_mixed(process):
        each = f"real {uids.real}, effective {uids.effective}, saved {uids.saved}, "
        return f"{process.name}: uid {each}file-system {uids.filesystem}; capabilities {shown}"
    return f"{process.name}: uid {uids.effective}; capabilities {shown}"
