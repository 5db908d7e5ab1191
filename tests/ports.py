"""Makes situations of the rules' table, looks at the port, and then lets a process bind it."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.backend import NamespacesBackend, open_namespaces
from labs.engine.model import name_errno
from labs.engine.plans import ProcessPlan
from labs.engine.port.machine import see
from labs.engine.port.processes import map_outwards
from labs.engine.port.question import Question
from labs.engine.port.ruling import judge
from labs.engine.port.unseen import list_unseen
from labs.engine.rules.calls import Accept, Bind, Listen, Open, Option, SetOption
from labs.engine.verification.cell import PLANS, USERS
from labs.engine.verification.makers import MINE
from labs.engine.verification.measuring import translate
from labs.engine.verification.table import make_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labs.engine.model import Argument
    from labs.engine.port.sight import Sight
    from labs.engine.rules.calls import Call, User
    from labs.engine.verification.cell import Cell


@dataclass
class Machine:
    """A host with a process of each of the table's users."""

    backend: NamespacesBackend
    uid_map: str
    pids: dict[str, int]
    _descriptors: dict[tuple[int, str], Argument] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """A process of the host's, as it is numbered here."""
        return self.backend.first_process("one")

    def outside(self, uid: int) -> int:
        """A uid of the host's, as it is numbered here."""
        found = map_outwards(self.uid_map, uid)
        assert found is not None
        return found

    def make(self, number: int, call: Call) -> int:
        """The errno of a call of a cell, by its number."""
        made = [*translate(call, self._descriptors.get((number, call.socket), -1))]
        result = self.backend.perform(call.user.name, made, go_on=True)[-1]
        if isinstance(call, Open | Accept) and isinstance(result.value, int):
            name = call.child if isinstance(call, Accept) else call.socket
            self._descriptors[number, name] = result.value
        return result.errno

    def make_question(self, calls: Sequence[Call]) -> Question:
        """The bind() that these calls of a cell's are about."""
        (bind,) = [call for call in calls if isinstance(call, Bind)]
        (opened,) = [call for call in calls if isinstance(call, Open)]
        options = {call.option: call.value for call in calls if isinstance(call, SetOption)}
        user: User = bind.user
        return Question(
            bind.port,
            self.outside(user.uid),
            opened.protocol,
            bind.address,
            user.capabilities,
            bool(options.get(Option.REUSEADDR)),
            bool(options.get(Option.REUSEPORT)),
            bool(options.get(Option.V6ONLY)),
            str(options.get(Option.DEVICE, "")),
            self.pid,
        )


@contextlib.contextmanager
def open_machine() -> Iterator[Machine]:
    """A machine of the table's, in namespaces."""
    with open_namespaces() as backend:
        for host in PLANS.values():
            backend.open_host(host)
        pids = {}
        for user in USERS:
            names = tuple(sorted(user.capabilities))
            plan = ProcessPlan(user.name, user.namespace, user.uid, names)
            pids[user.name] = backend.start_process(plan).pid
        with open(f"/proc/{backend.first_process('one')}/uid_map") as file:
            yield Machine(backend, file.read(), pids)


@dataclass(frozen=True)
class Situation:
    """A cell of the table, parted: what is there, and the bind() that comes then."""

    about: str
    before: tuple[Call, ...]
    after: tuple[Call, ...]


def part(cell: Cell) -> Situation | None:
    """A cell as a situation; None where it is about anything but one bind(), and listen() after."""
    start = next((i for i, call in enumerate(cell.calls) if call.socket == MINE), None)
    if start is None:
        return None
    before, after = cell.calls[:start], cell.calls[start:]
    if any(call.socket != MINE for call in after) or after[0].user.namespace != "one":
        return None
    kinds = [type(call) for call in after if not isinstance(call, SetOption)]
    has_program = any(isinstance(c, SetOption) and c.option is Option.PROGRAM for c in after)
    if has_program or kinds not in ([Open, Bind], [Open, Bind, Listen]):
        return None
    bind = next(call for call in after if isinstance(call, Bind))
    return Situation(cell.about, before, after) if bind.port else None


@dataclass(frozen=True)
class Held:
    """What was seen before a bind(), and what the kernel answered to it."""

    situation: Situation
    question: Question
    sight: Sight
    call: str
    errno: str


def hold(machine: Machine, number: int, situation: Situation) -> Held:
    """Make a situation, look, and make the bind() then, and the listen()."""
    for call in situation.before:
        machine.make(number, call)
    question = machine.make_question(situation.after)
    sight = see(question)
    made, errno = "bind", 0
    for call in situation.after:
        errno = machine.make(number, call)
        if errno:
            made = {Bind: "bind", Listen: "listen"}.get(type(call), "setsockopt")
            break
    return Held(situation, question, sight, made, name_errno(errno) if errno else "")


def blinded(sight: Sight) -> Sight:
    """The same, as it is to one who may look into no process."""
    taken = tuple(replace(one, options=None, holders=()) for one in sight.taken)
    return replace(sight, taken=taken, hidden=9)


@dataclass
class Agreement:
    """How what is said of ports and what the kernel answers agree.

    `verdicts` counts what was said, to who sees all and to who sees little; `mismatches` are the
    situations in which the kernel answered something else, and `named` those of them of which the
    answer says by itself on what condition it stands.
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)


def compare(machine: Machine, every: int) -> Agreement:
    """Hold one in so many situations of the table against the kernel."""
    situations = [found for cell in make_table() if (found := part(cell))]
    agreement = Agreement()
    for number, situation in enumerate(situations[::every]):
        held = hold(machine, number, situation)
        for eyes, sight in (("all", held.sight), ("few", blinded(held.sight))):
            ruling = judge(held.question, sight)
            agreement.verdicts[eyes, str(ruling.verdict)] += 1
            possible = {(r.call if r.errno else "bind", r.errno) for r in ruling.replies}
            if (held.call, held.errno) in possible:
                continue
            kinds = {one.kind for one in list_unseen(sight, ruling, is_root=True)}
            where = agreement.named if "changed" in kinds else agreement.mismatches
            where.append(f"{eyes}: {situation.about}: {held.call} {held.errno}, not {possible}")
    return agreement
