"""`invoke play`: joins the open playground or opens one, and gives a shell in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labs.engine.errors import ExitStatus, UsageError, standard_output
from labs.engine.play.greeting import greet
from labs.engine.play.sheet import show_evidence
from labs.engine.play.shell import Shell
from labs.engine.play.visit import join_visit, open_visit
from labs.engine.translation import check_language

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labs.engine.script import Lab


@dataclass(frozen=True)
class PlayOptions:
    """What was asked for; `lab`, `user` and `host` are names, empty for the usual."""

    lab: str | None = None
    user: str = ""
    host: str = ""
    language: str = "en"
    new: bool = False
    command: str | None = None
    show: bool = False
    seed: int | None = None
    port: int | None = None


def run_play(labs: Sequence[Lab], options: PlayOptions) -> int:
    """Play, or show what there is; the command's status, 0 for a shell however that has ended.

    Raises UsageError, and CannotRun where there can be no namespaces.
    """
    check_language(options.language)
    lab = find_lab(labs, options.lab) if options.lab else None
    if options.show:
        return show(lab, options)
    if options.port is not None:
        raise UsageError("--port goes with --show.")
    if options.command is None and not is_terminal():
        raise UsageError(
            "A shell needs a terminal.", 'Without one:  invoke play --command "server --once"'
        )
    with open_visit(lab, options.seed, new=options.new) as visit:
        place, person = visit.ground.host(options.host), visit.ground.user(options.user)
        if options.command is None:
            greet(standard_output(), visit.ground, place, person, options.language)
        status = Shell(visit, place, person, options.language).run(options.command)
    return status if options.command is not None else ExitStatus.PASSED


def show(lab: Lab | None, options: PlayOptions) -> ExitStatus:
    """Show the evidence of all hosts, or of one; UsageError where no playground is open."""
    with join_visit(lab, options.seed) as visit:
        ground = visit.ground
        places = [ground.host(options.host)] if options.host else ground.hosts
        evidence = [visit.observe(place.name) for place in places]
        show_evidence(standard_output(), ground, evidence, options.port or 0, options.language)
    return ExitStatus.PASSED


def find_lab(labs: Sequence[Lab], name: str) -> Lab:
    """The lab of this name; raises UsageError."""
    for lab in labs:
        if lab.name == name:
            return lab
    raise UsageError(f"There is no lab {name}.", "invoke --list  names all.")


def is_terminal() -> bool:
    """Whether there is a terminal to type on and to read from."""
    return all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout))
