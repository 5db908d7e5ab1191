"""What runs in a learner's container: one lab, whose outcome is printed as one JSON document.

    python3 -m labs.engine.classes.seat LAB SEED [--hold]

With --hold it stays until it is removed, as a swarm cannot remove a job's task that is complete. It
exits with 0 whatever came of the lab: any other end says that the container itself has failed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING

from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.backends.namespaces.init import mount_proc
from labs.engine.capabilities import capability_mask
from labs.engine.catalogue import find_lab
from labs.engine.classes.cluster import Assignment
from labs.engine.classes.result import Outcome
from labs.engine.errors import BindlabError, ExitStatus
from labs.engine.layout import Layout
from labs.engine.record import Record
from labs.engine.runner import run_lab
from labs.engine.system import (
    CLONE_NEWNET,
    limit_bounding_set,
    stay_readable,
    take_ids,
    unshare,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from labs.engine.backend import Backend

MODULE = "labs.engine.classes.seat"
HOLD = "--hold"
LONGEST_HOLD = 600.0  # seconds; then whoever would remove it is gone
TRAINEE = 1000  # the image's ordinary user, who has subordinate ids
# What newuidmap and newgidmap take from their files, and no file gives to anything else.
KEPT = ("CAP_SETUID", "CAP_SETGID")


def main(arguments: Sequence[str]) -> None:
    """Run the lab and print its outcome."""
    lab, seed, *hold = arguments
    try:
        if os.geteuid() == 0:
            become_trainee()
    except OSError as error:
        outcome = explain_node(error)
    else:
        outcome = run_assignment(Assignment(lab, int(seed)), open_namespaces())
    # With short lines: a log may break long ones.
    json.dump(outcome.to_json(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
    if hold:
        time.sleep(LONGEST_HOLD)


def run_assignment(assignment: Assignment, opening: AbstractContextManager[Backend]) -> Outcome:
    """Run an assignment's lab on the backend that is about to be opened."""
    record = Record()
    try:
        lab = find_lab(assignment.lab, f"labs.{assignment.lab}.lab")
        with opening as backend:
            status = run_lab(lab, backend, Layout(assignment.seed), [record])
    except BindlabError as error:
        return Outcome(error.status, error.message, error.hint)
    run = record.to_json()
    return Outcome(status, str(run["error"]), str(run["hint"]), run)


def become_trainee() -> None:
    """Do as root what a swarm's engine cannot be asked for, then be the ordinary user for good.

    A service's containers cannot be without a network, and parts of their /proc are covered, which
    keeps a host of a lab from mounting its own. Raises OSError.
    """
    unshare(CLONE_NEWNET)
    mount_proc()
    limit_bounding_set(capability_mask(KEPT))
    take_ids(TRAINEE)
    stay_readable()  # newuidmap looks there for whose process it is


def explain_node(error: OSError) -> Outcome:
    """The outcome where root in this container may not do what root has to."""
    return Outcome(
        ExitStatus.CANNOT_RUN,
        f"A container of this node's may not mount /proc: {error.strerror}.",
        "AppArmor forbids it before Docker 25, and user namespaces (--userns-remap, rootless) do.",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
