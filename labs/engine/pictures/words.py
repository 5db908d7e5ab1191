"""A picture in words: what stands in its place for who cannot see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.model import OUTCOMES
from labs.engine.pictures.chart import Bars, Course, Strips
from labs.engine.pictures.layout import WORDS
from labs.engine.strace import printable
from labs.engine.translation import read_translation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.pictures.chart import Chart
    from labs.engine.pictures.scene import Attempt, Door, HostFrame, Picture, Queue
    from labs.engine.translation import Say

MOST = 8  # parts of each kind that are named


def describe(picture: Picture, language: str = "en") -> str:
    """All that a picture shows, in short sentences."""
    say = read_translation(WORDS, language).text
    sentences = [sentence for host in picture.hosts for sentence in tell_host(host, say)]
    if picture.chart:
        sentences.append(tell_chart(picture.chart, say))
    return printable(" ".join(sentences))


def tell_host(host: HostFrame, say: Say) -> Iterator[str]:
    """A host, its doors and what was tried from it."""
    yield say("Host {name}, {address}.", {"name": host.name, "address": host.addresses[0]})
    for door in host.doors:
        yield tell_door(door, say)
    for attempt in host.attempts[:MOST]:
        yield tell_attempt(attempt, say)
    for (peer, state), count in list(host.elsewhere.items())[:MOST]:
        yield say("{count} {state} to {peer}.", {"count": count, "state": state, "peer": peer})


def tell_door(door: Door, say: Say) -> str:
    """A port, who has it, and its connections."""
    parts = [tell_queue(queue, say) for queue in door.queues[:MOST]] or [say(door.vacancy)]
    if len(door.queues) > MOST:
        parts.append(say("and {count} more", {"count": len(door.queues) - MOST}))
    parts += [f"{count} {state}" for state, count in door.connections.items()]
    port = {"protocol": door.protocol, "port": door.port, "parts": "; ".join(parts)}
    return say("Port {protocol} {port}: {parts}.", port)


def tell_queue(queue: Queue, say: Say) -> str:
    """A socket, its owner and who holds it."""
    values = {
        "address": queue.address,
        "owner": queue.owner_shown,
        "holders": ", ".join(figure.name for figure in queue.holders) or "-",
        "waiting": queue.waiting,
        "backlog": queue.backlog,
    }
    template = (
        "listener of {owner} on {address}, held by {holders}, {waiting} of {backlog} waiting"
        if queue.listens
        else "socket of {owner} bound to {address}, held by {holders}"
    )
    return ", ".join([say(template, values), *queue.options])


def tell_attempt(attempt: Attempt, say: Say) -> str:
    """What a process called, and what came of it."""
    figure = attempt.figure
    uid = figure.uid if figure.inner is None else figure.inner
    values = {
        "name": figure.name,
        "uid": "?" if uid is None else uid,
        "call": attempt.shown,
        "result": attempt.errno or "OK",
        "count": attempt.count,
    }
    if attempt.count > 1:
        return say("{name}/{uid}: {call}, {count} times: {result}.", values)
    return say("{name}/{uid}: {call}: {result}.", values)


def tell_chart(chart: Chart, say: Say) -> str:
    """What was measured."""
    match chart:
        case Bars(bars=parts):
            shown = ", ".join(f"{say(name)} {value:g}" for name, value in parts)
        case Strips(strips=parts):
            shown = ", ".join(f"{name} {value:g}" for name, value in parts)
            return say("{what}. Wake-ups: {parts}.", {"what": chart.what, "parts": shown})
        case Course():
            shown = ", ".join(f"{say(name)} {sum(chart.counts(name))}" for name in OUTCOMES)
    return f"{chart.what}: {shown}."
