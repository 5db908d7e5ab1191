"""All that `port.why` has to say, as one document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.port.question import name_user
from labs.engine.rules.calls import BIND_SERVICE

if TYPE_CHECKING:
    from labs.engine.port.advice import Advice
    from labs.engine.port.question import Question
    from labs.engine.port.ruling import Ruling, Standing
    from labs.engine.port.sight import Holder, Sight, Taken
    from labs.engine.port.unseen import Unseen
    from labs.engine.port.worlds import Reply

SCHEMA = 1


@dataclass(frozen=True)
class Answer:
    """What was seen, what the rules say to it, what would help, and what stayed hidden."""

    sight: Sight
    ruling: Ruling
    advice: tuple[Advice, ...] = ()
    unseen: tuple[Unseen, ...] = ()

    def to_json(self) -> object:
        """The document; docs/port-why.schema.json says what is in it."""
        ruling = self.ruling
        stands = {
            taken: standing for standing in ruling.standings for taken in standing.member.taken
        }
        return {
            "schema": SCHEMA,
            "status": int(ruling.verdict.status),
            "kernel": self.sight.release,
            "question": show_question(ruling.question),
            "verdict": str(ruling.verdict),
            "answers": [show_reply(reply) for reply in ruling.replies],
            "depends_on": [str(doubt) for doubt in ruling.doubts],
            "sockets": [show_socket(taken, stands.get(taken)) for taken in self.sight.taken],
            "advice": [
                {
                    "kind": one.kind,
                    "text": one.text.format(**one.values),
                    "lab": one.lab,
                    "certain": one.is_certain,
                }
                for one in self.advice
            ],
            "unseen": [
                {"kind": one.kind, "text": one.text.format(**one.values), "how": one.how}
                for one in self.unseen
            ],
            "elsewhere": [
                {"pid": one.pid, "command": one.command, "sockets": one.count}
                for one in self.sight.elsewhere
            ],
        }


def show_question(question: Question) -> dict[str, object]:
    """The bind() that was asked about."""
    return {
        "protocol": str(question.protocol),
        "address": question.address,
        "port": question.port,
        "uid": question.uid,
        "user": name_user(question.uid),
        "can_bind_low_ports": BIND_SERVICE in question.capabilities,
        "reuseaddr": question.reuseaddr,
        "reuseport": question.reuseport,
        "v6only": question.v6only,
        "device": question.device,
        "netns": question.netns,
    }


def show_reply(reply: Reply) -> dict[str, object]:
    """An answer of the model's."""
    return {
        "call": reply.call,
        "errno": reply.errno,
        "rule": reply.rule.name,
        "sentence": reply.rule.sentence,
        "kernel_function": reply.rule.source,
    }


def show_socket(taken: Taken, standing: Standing | None) -> dict[str, object]:
    """A socket; null is what was not seen."""
    row, options = taken.row, taken.options
    v6only = row.v6only if options is None or options.v6only is None else options.v6only
    return {
        "protocol": str(row.protocol),
        "family": str(row.family),
        "state": row.state,
        "address": row.local[0],
        "peer": list(row.peer) if row.peer[1] else None,
        "owner": row.owner,
        "user": None if row.owner is None else name_user(row.owner),
        "inode": row.inode or None,
        "device": row.device,
        "reuseaddr": options.reuseaddr if options else None,
        "reuseport": options.reuseport if options else None,
        "v6only": v6only,
        "time_wait_ms": row.expires if row.timer == "TIME_WAIT" else None,
        "holders": [show_holder(holder) for holder in taken.holders],
        "origin": taken.origin,
        "in_the_way": standing.is_in_the_way if standing else False,
    }


def show_holder(holder: Holder) -> dict[str, object]:
    """A process that holds a socket."""
    container = holder.container
    return {
        "pid": holder.pid,
        "command": holder.command,
        "uid": holder.uid,
        "user": name_user(holder.uid),
        "uid_inside": holder.inside,
        "container": container
        and {"engine": container.engine, "id": container.id, "name": container.name},
        "unit": holder.unit,
        "is_users_unit": holder.is_users and bool(holder.unit),
        "target": holder.target,
    }
