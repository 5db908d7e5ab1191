"""What the labs of real servers ask of them: who wakes for a connection, what a reload loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labs.engine.errors import LabError
from labs.engine.remote import HTTP_GET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from labs.engine.answers import Answers
    from labs.engine.model import Address
    from labs.engine.programs import Child
    from labs.engine.remote import Process

LOOPBACK = "127.0.0.1"
MOST = 50_000  # requests


def ask_sleepers(
    client: Process, port: int, workers: Sequence[Child], count: int
) -> tuple[dict[str, float], int]:
    """Connect so many times to a port of the client's own host, each when all workers sleep.

    Who woke how often, by name, and how often in vain: while another one got the connection. Each
    worker answers with its pid.
    """
    woken = {worker.name: 0.0 for worker in workers}
    in_vain = 0
    for _ in range(count):
        answers = client.request_from_sleep((LOOPBACK, port), 1, workers, words=HTTP_GET)
        if not answers.answered:
            raise LabError(f"Nobody has answered on port {port}: {answers.parts}.")
        for worker in workers:
            times = answers.woken[str(worker.pid)]
            woken[worker.name] += times
            in_vain += 0 if str(worker.pid) in answers.by else times
    return woken, in_vain


def renew(
    client: Process,
    address: Address,
    reload: Callable[[], None],
    count: int,
    *,
    clients: int,
    some: int,
) -> Answers:
    """Reload so many times under load, with some requests before each and after the last."""
    client.load(address, MOST, clients=clients, words=HTTP_GET)
    for _ in range(count):
        client.wait_for_requests(some)
        reload()
    answers = client.stop_load(after=some)
    if answers.asked >= MOST:
        raise LabError(f"The load ended before the last reload: {MOST} requests were too few.")
    return answers
