"""A claim: a socket asks for a port, by bind() or listen(), and what the rules say to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.decision import Decision, Missing
from labs.engine.rules.lacking import find_nearest
from labs.engine.rules.rules import TAKEN
from labs.engine.rules.sockets import TCP

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.rules.sockets import Socket
    from labs.engine.rules.world import Answer
    from labs.engine.translation import Say

MOST_LACKS = 2  # a rule that lacks more has not come near


@dataclass(frozen=True)
class Claim:
    """A `call` by which a socket has asked for a port: the rules' answer, and the kernel's errno.

    `mine` is the socket as it asked: with the address and the port.
    """

    call: str
    answer: Answer
    mine: Socket
    errno: str

    @property
    def agrees(self) -> bool:
        """Whether the kernel has answered what the rules say."""
        return self.answer.errno == self.errno

    def decides_after(self, earlier: Claim | None) -> bool:
        """Whether this one decides a step, and not one that came before it.

        The last refusal does, whatever comes after it. Of a server's start it is bind(): the
        listen() that follows asks once more for the port that its socket has just got.
        """
        if earlier is None or self.errno:
            return True
        is_again = self.call == "listen" and earlier.mine.name == self.mine.name
        return not earlier.errno and not is_again

    def decide(self, rulebook: Rulebook, user_of: Callable[[int], str], say: Say) -> Decision:
        """What the rules say, for whoever reads it: users by their names, the rule in words."""
        holder = self.answer.holder
        return Decision(
            self.call,
            self.answer.errno,
            self.answer.rule.name,
            say(self.answer.rule.sentence),
            max(self.mine.port, 0),
            user_of(holder.owner) if holder and holder.owner >= 0 else "",
            str(holder.state) if holder else "",
            self._missing(rulebook),
            self.agrees,
        )

    def _missing(self, rulebook: Rulebook) -> Missing | None:
        """What the rule lacks that came nearest to letting it in, where none has."""
        holder = self.answer.holder
        if self.answer.rule.name != TAKEN.name or holder is None:
            return None
        shares = rulebook.tcp_shares if self.mine.protocol is TCP else rulebook.udp_shares
        nearest = find_nearest(shares, self.mine, holder)
        if nearest is None or len(nearest.lacks) > MOST_LACKS:
            return None
        return Missing(nearest.share.name, tuple(map(str, nearest.lacks)))
