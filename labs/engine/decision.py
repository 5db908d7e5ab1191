"""By which rule a step was decided, as frozen data: a part of the model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """Which rule came nearest to letting a socket in, and what it `lacks` (see `rules.lacking`)."""

    rule: str
    lacks: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule} lacks {', '.join(self.lacks)}"


@dataclass(frozen=True)
class Decision:
    """What the model of the rules says to the bind() or listen() that decided a step.

    `errno` is its answer, empty for success, and `rule` the name of the rule that decides, with its
    `sentence`. `holder` is the user whose socket stands in the way, or beside which this one is let
    be, empty where that has no owner; `state` is the model's word for that socket's state, empty
    where there is none. `port` is 0 for one that the kernel chooses. It `agrees` where the kernel
    has answered the same.
    """

    call: str
    errno: str
    rule: str
    sentence: str
    port: int = 0
    holder: str = ""
    state: str = ""
    missing: Missing | None = None
    agrees: bool = True

    @property
    def reason(self) -> str:
        """The rule, and what was missing where it refuses: `taken: both-reuseport lacks ...`."""
        return f"{self.rule}: {self.missing}" if self.missing else self.rule
