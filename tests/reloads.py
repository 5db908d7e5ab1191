"""Many reloads of a server under a load of many requests, on whichever backend."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from labs.engine.script import Lab, exactly, lab, renew
from labs.haproxy import lab as haproxy
from labs.nginx import lab as nginx

if TYPE_CHECKING:
    from collections.abc import Callable

    from labs.engine.model import Address
    from labs.engine.script import Answers, Host, Process, Run

    Renew = Callable[[Process], Answers]
    """Reloads once under a load of its own, with AT_LEAST requests before and after."""

CLIENTS = 8
RELOADS = 20
REQUESTS = 20_000
AT_LEAST = REQUESTS // RELOADS // 2


def reloading(address: Address, reload: Callable[[], None]) -> Renew:
    """One reload under a load of its own."""
    return lambda client: renew(client, address, reload, 1, clients=CLIENTS, some=AT_LEAST)


def start_nginx(host: Host, *, reuseport: bool) -> Renew:
    """An nginx that listens."""
    plan = nginx.Plan("often", 8080, reuseport=reuseport)
    server = nginx.start(nginx.prepare(host, plan), plan)
    return reloading(server.address, server.reload)


def start_haproxy(host: Host) -> Renew:
    """An HAProxy with a master that listens."""
    server = haproxy.start(host, haproxy.Plan("often", 8080, has_master=True))
    return reloading(server.address, server.reload)


def reload_often(start: Callable[[Host], Renew]) -> tuple[Lab, list[Answers]]:
    """A lab of one step, and where it will leave what came of the requests of each reload."""
    found: list[Answers] = []

    @lab("reloads", title="A server reloads many times under a load of many requests")
    def reloads(run: Run) -> None:
        server, elsewhere = run.host("server"), run.host("elsewhere")
        client = elsewhere.process("client", user="bob")
        with run.step("It reloads", expect=exactly(0, "lost"), why="The queues stay.") as step:
            reload_once = start(server)
            found.extend(reload_once(client) for _ in range(RELOADS))
            step.measured(sum(answers.lost for answers in found))

    return reloads, found


def check_reloads(found: list[Answers]) -> None:
    """Nothing was lost, everything is accounted for, and each reload had new workers."""
    assert len(found) == RELOADS
    assert {answers.lost for answers in found} == {0}
    assert sum(answers.answered for answers in found) >= REQUESTS
    # A load that ended before its reload would have old workers alone.
    for earlier, later in pairwise(found):
        assert {*later.by} - {*earlier.by}
        assert {*later.by} & {*earlier.by}
