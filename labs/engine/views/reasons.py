"""The words in which views say by which rule a step was decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labs.engine.decision import Decision, Missing
    from labs.engine.translation import Say

# The socket in the way, or beside which one is let be, by its state.
HOLDERS = {
    "CLOSE": "{user}'s socket",
    "LISTEN": "{user}'s listener",
    "CONNECTED": "{user}'s connection",
    "FIN_WAIT1": "{user}'s closed connection",
    "TIME_WAIT": "the TIME_WAIT of {user}'s connection",
    "RESET": "{user}'s connection that was reset",
}
NOBODYS = {"CONNECTED": "a connection that nobody owns"}
LEFT = "what a connection left"  # of nobody's
REFUSED, BESIDE = "{rule}, by {holder}", "{rule}, beside {holder}"
NEAREST = "{reason}; {rule} lacks {lacks}"
OTHERWISE = "the rules say {answer} here, by {reason}"
LACKS = {
    "same-owner": "the same owner",
    "my-v6only": "IPV6_V6ONLY on the new one",
    "their-v6only": "IPV6_V6ONLY on the old one",
    "my-reuseaddr": "SO_REUSEADDR on the new one",
    "their-reuseaddr": "SO_REUSEADDR on the old one",
    "my-reuseport": "SO_REUSEPORT on the new one",
    "their-reuseport": "SO_REUSEPORT on the old one",
    "not-listening": "an old one that does not listen",
    "no-program": "a new one without a program",
}
BOTH = {
    ("my-reuseaddr", "their-reuseaddr"): "SO_REUSEADDR on both",
    ("my-reuseport", "their-reuseport"): "SO_REUSEPORT on both",
}


def show_decision(decision: Decision, say: Say) -> str:
    """By which rule a step was decided, in one line; where the kernel has not, what the rules say.

    The rules are wrong there, whatever the step was to show.
    """
    reason = show_reason(decision, say)
    if decision.agrees:
        return reason
    return say(OTHERWISE, {"answer": decision.errno or "OK", "reason": reason})


def show_reason(decision: Decision, say: Say) -> str:
    """The rule, due to whom, and what was missing."""
    reason = decision.rule
    if decision.state:
        holder = show_holder(decision, say)
        template = REFUSED if decision.errno else BESIDE
        reason = say(template, {"rule": decision.rule, "holder": holder})
    if decision.missing is None:
        return reason
    lacks = show_lacks(decision.missing, say)
    return say(NEAREST, {"reason": reason, "rule": decision.missing.rule, "lacks": lacks})


def show_holder(decision: Decision, say: Say) -> str:
    """Whose socket it is, and of which kind."""
    if decision.holder:
        return say(HOLDERS[decision.state], {"user": decision.holder})
    return say(NOBODYS.get(decision.state, LEFT))


def show_lacks(missing: Missing, say: Say) -> str:
    """What a rule lacks."""
    if missing.lacks in BOTH:
        return say(BOTH[missing.lacks])
    return say(" and ").join(say(LACKS[lack]) for lack in missing.lacks)
