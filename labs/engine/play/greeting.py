"""What a shell of the playground says first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from labs.engine.translation import ENGLISH, read_translation

if TYPE_CHECKING:
    from labs.engine.play.ground import Ground, Person, Place

WORDS = Path(__file__).parent


def greet(stream: TextIO, ground: Ground, place: Place, person: Person, language: str) -> None:
    """Write who and what there is, how to join, and how to leave."""
    say = read_translation(WORDS, language).text
    lab = ground.lab
    values = {
        "lab": lab,
        "hosts": ", ".join(f"{host.name} {host.ipv4}" for host in ground.hosts),
        "users": ", ".join(f"{user.name} {user.uid}" for user in ground.users),
        "port": ground.port,
        "host": place.name,
        "other": next(user.name for user in ground.users if user != person),
        "join": "" if language == ENGLISH else f" --lang {language}",
    }
    title = "The playground of the lab {lab}." if lab else "A playground."
    lines = [
        say(title, values),
        say("  hosts   {hosts}", values),
        say("  users   {users}", values),
        say("  port    {port}", values),
        say("  try     server --port {port} &", values),
        say("          client {host} {port}", values),
        say("  look    evidence {port}    ss -tlnpe    server --help", values),
        say(
            "  join    invoke play --user {other} --host {host}{join}    in another terminal",
            values,
        ),
        say("  leave   exit; with the last shell all is gone", values),
    ]
    if not person.uid:
        as_other = say("  as      as {other} server &    as {other}@HOST COMMAND", values)
        lines.insert(-2, as_other)
    stream.write("\n".join(lines) + "\n\n")
    stream.flush()
