"""What could not be seen of a port, and what would show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labs.engine.port.question import as_root, name_user
from labs.engine.port.ruling import Doubt, Verdict
from labs.engine.rules.sockets import TCP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.port.ruling import Ruling
    from labs.engine.port.sight import Sight

UNSEEN = {
    "holders": "Who holds {count} of these sockets: {hidden} of the processes may not be looked "
    "into.",
    "nobody": "Who holds {count} of these sockets: none of the processes that can be seen here. It "
    "may be the kernel itself (as for NFS or WireGuard), a process of another pid namespace or one "
    "that /proc hides (hidepid), or a message in which it is on its way.",
    "options": "SO_REUSEADDR and SO_REUSEPORT of {count} of these sockets: their processes give "
    "no copy (pidfd_getfd, which ptrace(2) rules, and Yama where it is on).",
    "rest": "SO_REUSEADDR and SO_REUSEPORT of connections that no process has any more: the "
    "kernel shows them to nobody.",
    "bound": "TCP sockets that are bound and no more: kernels show them since 6.8 alone, and not "
    "all processes can be looked into.",
    "memory": "What the port remembers of the sockets that were on it with SO_REUSEPORT: the "
    "kernel shows it to nobody.",
    "changed": "Whether {user}'s socket has lost SO_REUSEPORT since it was bound: the port would "
    "still remember that it had it. It is taken that it has not.",
    "order": "In which order the kernel looks at these sockets.",
    "owner": "Who owns {count} of these sockets: the owner has no number in this user namespace.",
}
NEEDS_ROOT = frozenset({"holders", "nobody", "options", "bound", "owner"})


def may_have_changed(ruling: Ruling) -> bool:
    """Whether a socket of the same owner is in the way for want of SO_REUSEPORT."""
    question = ruling.question
    if not question.reuseport or question.protocol is not TCP:
        return False
    if ruling.verdict is not Verdict.REFUSED:
        return False
    there = (variant for one in ruling.in_the_way for variant in one.member.variants)
    return any(variant.owner == question.uid for variant in there)


@dataclass(frozen=True)
class Unseen:
    """Something that was not seen: a template, its values, and the command that would show it."""

    kind: str
    values: Mapping[str, object] = field(default_factory=dict)
    how: str = ""

    @property
    def text(self) -> str:
        """The template of the sentence."""
        return UNSEEN[self.kind]


def list_unseen(sight: Sight, ruling: Ruling, *, is_root: bool) -> tuple[Unseen, ...]:
    """What stayed hidden of the sockets on the port."""
    how = "" if is_root else as_root(ruling.question)
    return tuple(
        Unseen(kind, values, how if kind in NEEDS_ROOT else "")
        for kind, values in find_unseen(sight, ruling)
    )


def find_unseen(sight: Sight, ruling: Ruling) -> Iterator[tuple[str, dict[str, object]]]:
    """The kinds of what stayed hidden, with their values."""
    held = [taken for taken in sight.taken if taken.row.inode]
    if orphans := sum(not taken.holders for taken in held):
        kind = "holders" if sight.hidden else "nobody"
        yield kind, {"count": orphans, "hidden": sight.hidden}
    if closed := sum(bool(taken.holders) and taken.options is None for taken in held):
        yield "options", {"count": closed}
    if unowned := sum(taken.row.owner is None for taken in held):
        yield "owner", {"count": unowned}
    if not sight.sees_bound:
        yield "bound", {}
    if Doubt.REST in ruling.doubts:
        yield "rest", {}
    if Doubt.MEMORY in ruling.doubts:
        yield "memory", {}
    if may_have_changed(ruling):
        yield "changed", {"user": name_user(ruling.question.uid)}
    if Doubt.ORDER in ruling.doubts:
        yield "order", {}
