"""What would make a refused bind() work: what the model accepts in all worlds, and nothing else.

The texts are templates, so that each can be said in every language.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from labs.engine.port.question import name_user
from labs.engine.port.ruling import Doubt, Verdict, judge
from labs.engine.port.sight import Options
from labs.engine.rules.calls import BIND_SERVICE
from labs.engine.rules.rules import ADDRESS_NOT_HERE, PRIVILEGED_PORT
from labs.engine.rules.sockets import ANY_IPV6, IPV4, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from labs.engine.port.question import Question
    from labs.engine.port.ruling import Ruling
    from labs.engine.port.sight import Holder, Sight, Taken
    from labs.engine.rules.sockets import Address

SHOWN_ADDRESSES = 4
ANOTHER_SECOND = 1_000  # milliseconds

ADVICE = {
    "capability": "Give it CAP_NET_BIND_SERVICE: AmbientCapabilities= in its unit of systemd, or "
    "setcap cap_net_bind_service=+ep on its program.",
    "sysctl": "Let everybody have the ports from {port} on: {there}sysctl "
    "net.ipv4.ip_unprivileged_port_start={port}",
    "activation": "Where systemd runs, let a .socket unit bind it and hand the listener over; then "
    "it makes no bind() of its own.",
    "addresses-here": "Bind an address of this host: {addresses}.",
    "nonlocal": "Let addresses be bound that are not here yet: {there}sysctl "
    "net.{version}.ip_nonlocal_bind=1",
    "reuseport": "Set SO_REUSEPORT: the socket that is there has it, and is {user}'s too.",
    "user-reuseport": "Start it as {user}, with SO_REUSEPORT as the socket that is there has.",
    "user-reuseport-perhaps": "Start it as {user}, with SO_REUSEPORT: enough if the socket that is "
    "there has it too, which was not seen.",
    "both-reuseport": "Start both with SO_REUSEPORT, as {user}: what is there anew as well.",
    "reuseaddr": "Set SO_REUSEADDR: what is there has it, and does not listen.",
    "reuseaddr-rest": "Set SO_REUSEADDR: enough if the server that has ended had it too, as most "
    "have; nothing shows whether it did.",
    "wait": "Wait {seconds} s: then the last of TIME_WAIT is over.",
    "v6only": "Set IPV6_V6ONLY: it is on IPv6 alone then, where nobody is in the way.",
    "address": "Bind another address: nobody is in the way on {addresses}.",
    "device": "Bind it to a device by SO_BINDTODEVICE: nobody is in the way on {devices}.",
    "stop": "Stop what is there: {what}.",
    "stop-connections": "Stop what is there: {what}. Set SO_REUSEADDR as well, for what will "
    "remain of its connections (TIME_WAIT).",
    "publish": "Publish the container's port on another port or address of this host: docker-proxy "
    "has it for the container.",
    "hand-over": "Have the listener handed over by who holds it (fork, SCM_RIGHTS, LISTEN_FDS): "
    "whoever has it serves the port, as any user, without a bind().",
}
LABS = {
    "capability": "device",
    "sysctl": "device",
    "activation": "passing",
    "nonlocal": "device",
    "reuseport": "reuseport",
    "user-reuseport": "euid",
    "user-reuseport-perhaps": "euid",
    "both-reuseport": "euid",
    "reuseaddr": "reuseaddr",
    "reuseaddr-rest": "timewait",
    "wait": "timewait",
    "v6only": "dualstack",
    "address": "unique",
    "device": "device",
    "hand-over": "passing",
}


@dataclass(frozen=True)
class Advice:
    """Something that would make it work; `is_certain` where the model accepts it in all worlds."""

    kind: str
    values: Mapping[str, object] = field(default_factory=dict)
    is_certain: bool = True

    @property
    def text(self) -> str:
        """The template of the sentence."""
        return ADVICE[self.kind]

    @property
    def lab(self) -> str:
        """The lab that shows it; empty for none."""
        return LABS.get(self.kind, "")


def advise(ruling: Ruling, sight: Sight) -> tuple[Advice, ...]:
    """What would make it work, the simplest first; nothing where it works, or may well."""
    if ruling.verdict is Verdict.ACCEPTED or not any(reply.errno for reply in ruling.replies):
        return ()
    rule = ruling.replies[0].rule
    if rule == PRIVILEGED_PORT:
        return tuple(for_privileged(ruling.question, sight))
    if rule == ADDRESS_NOT_HERE:
        return tuple(for_address(ruling.question, sight))
    if not ruling.in_the_way:
        return ()
    kinds: tuple[Callable[[Ruling, Sight], Iterator[Advice]], ...] = (
        *(try_options, try_users, try_waiting, try_v6only),
        *(try_addresses, try_devices, try_stopping, try_publishing, try_handing_over),
    )
    return tuple(advice for kind in kinds for advice in kind(ruling, sight))


def accepts(question: Question, sight: Sight) -> bool:
    """Whether the model accepts it in all worlds."""
    return judge(question, sight).verdict is Verdict.ACCEPTED


# --- whoever is on the port ---------------------------------------------------------------


def for_privileged(question: Question, sight: Sight) -> Iterator[Advice]:
    """What lets one have a low port; who is on it is another question."""
    able = replace(question, capabilities=frozenset({BIND_SERVICE}))
    is_enough = accepts(able, sight)
    yield Advice("capability", is_certain=is_enough)
    values = {"port": question.port, "there": name_entry(question)}
    yield Advice("sysctl", values, is_certain=is_enough)
    if is_enough:
        yield Advice("activation")
    yield from advise(judge(able, sight), sight)


def for_address(question: Question, sight: Sight) -> Iterator[Advice]:
    """What to do where an address is none of the host's."""
    if found := free_addresses(question, sight):
        yield Advice("addresses-here", {"addresses": ", ".join(found)})
    version = "ipv4" if parse_address(question.address).is_ipv4 else "ipv6"
    host = sight.place.host
    there = replace(host, addresses=host.addresses | {parse_address(question.address)})
    if accepts(question, replace(sight, place=replace(sight.place, host=there))):
        yield Advice("nonlocal", {"version": version, "there": name_entry(question)})


def name_entry(question: Question) -> str:
    """How a command is run in the network namespace that is asked about."""
    return "" if question.netns is None else f"nsenter -t {question.netns} -n "


def taken_of(ruling: Ruling) -> list[Taken]:
    """The sockets that are in the way."""
    return [taken for one in ruling.in_the_way for taken in one.member.taken]


def holders_of(there: Sequence[Taken]) -> list[Holder]:
    """Who holds sockets, each process once."""
    return [*{holder.pid: holder for taken in there for holder in taken.holders}.values()]


def is_proxy(holder: Holder) -> bool:
    """Whether it is a docker-proxy, which nobody can start with other options."""
    return bool(holder.target)


# --- beside those who are there -----------------------------------------------------------


def try_options(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """Options of the socket's own, for the user who asks."""
    question = ruling.question
    if not question.reuseaddr:
        tried = judge(replace(question, reuseaddr=True), sight)
        if tried.verdict is Verdict.ACCEPTED:
            yield Advice("reuseaddr")
        elif tried.doubts == (Doubt.REST,):
            yield Advice("reuseaddr-rest", is_certain=False)
    if not question.reuseport and accepts(replace(question, reuseport=True), sight):
        yield Advice("reuseport", {"user": name_user(question.uid)})


def try_users(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """SO_REUSEPORT under the user whose the sockets in the way are."""
    question, there = ruling.question, taken_of(ruling)
    if any(is_proxy(holder) for holder in holders_of(there)):
        return
    owners = {taken.row.owner for taken in there if taken.row.inode}
    if len(owners) != 1 or (owner := owners.pop()) is None:
        return
    shared = replace(question, uid=owner, reuseport=True)
    if owner != question.uid:
        tried = judge(shared, sight)
        if tried.verdict is Verdict.ACCEPTED:
            yield Advice("user-reuseport", {"user": name_user(owner)})
            return
        if tried.doubts and {*tried.doubts} <= {Doubt.OPTIONS, Doubt.MEMORY}:
            yield Advice("user-reuseport-perhaps", {"user": name_user(owner)}, is_certain=False)
            return
    if all(taken.options and taken.options.reuseport for taken in there):
        return
    anew = tuple(with_reuseport(taken, owner) for taken in sight.taken)
    if accepts(shared, replace(sight, taken=anew)):
        yield Advice("both-reuseport", {"user": name_user(owner)})


def with_reuseport(taken: Taken, owner: int) -> Taken:
    """A socket of an owner's as it would be with SO_REUSEPORT."""
    if taken.row.owner != owner:
        return taken
    options = taken.options or Options(reuseaddr=False, reuseport=True)
    return replace(taken, options=options._replace(reuseport=True))


def try_waiting(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """Until what is left of connections is over."""
    left = [taken.row.expires for taken in sight.taken if taken.row.timer == "TIME_WAIT"]
    staying = tuple(taken for taken in sight.taken if taken.row.timer != "TIME_WAIT")
    if left and accepts(ruling.question, replace(sight, taken=staying)):
        yield Advice("wait", {"seconds": max(left) // ANOTHER_SECOND + 1})


def try_v6only(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """IPv6 alone."""
    question = ruling.question
    is_dual = parse_address(question.address) == ANY_IPV6 and not question.v6only
    if is_dual and accepts(replace(question, v6only=True), sight):
        yield Advice("v6only")


def try_addresses(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """Another address of the host's."""
    if found := free_addresses(ruling.question, sight):
        yield Advice("address", {"addresses": ", ".join(found)})


def free_addresses(question: Question, sight: Sight) -> list[str]:
    """Addresses of the host's, of the question's family, on which the bind() is accepted."""
    loopback = "127.0.0.1" if question.family is IPV4 else "::1"
    known = sorted(sight.place.host.addresses)
    texts = [loopback, *(show(one) for one in known if one.is_ipv4 is (question.family is IPV4))]
    usable = [text for text in dict.fromkeys(texts) if not text.startswith("fe80:")]
    free = (text for text in usable if accepts(replace(question, address=text), sight))
    return [text for text, _ in zip(free, range(SHOWN_ADDRESSES), strict=False)]


def show(address: Address) -> str:
    """An address as text."""
    kind = ipaddress.IPv4Address if address.is_ipv4 else ipaddress.IPv6Address
    return str(kind(address.number))


def try_devices(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """Another device, where those who are there are bound to one themselves."""
    question = ruling.question
    if all(one.member.first.row.device for one in ruling.in_the_way):
        devices = sorted(sight.place.host.devices)
        found = [name for name in devices if accepts(replace(question, device=name), sight)]
        if found:
            yield Advice("device", {"devices": ", ".join(found)})


# --- instead of those who are there -------------------------------------------------------


def try_stopping(ruling: Ruling, sight: Sight) -> Iterator[Advice]:
    """The end of those who hold what is in the way."""
    holders = holders_of(taken_of(ruling))
    if not holders:
        return
    pids = {holder.pid for holder in holders}
    staying = tuple(
        taken for taken in sight.taken if not any(holder.pid in pids for holder in taken.holders)
    )
    if accepts(ruling.question, replace(sight, taken=staying)):
        ending = [taken for taken in sight.taken if taken not in staying]
        has_connections = any(taken.row.peer[1] for taken in ending)
        is_asked = has_connections and not ruling.question.reuseaddr
        kind = "stop-connections" if is_asked else "stop"
        yield Advice(kind, {"what": name_stops(holders)})


def name_stops(holders: Sequence[Holder]) -> str:
    """How processes are stopped: those that are stopped in one way together."""
    groups: dict[str, list[int]] = {}
    for holder in sorted(holders, key=lambda holder: holder.pid):
        groups.setdefault(name_stop(holder), []).append(holder.pid)
    commands = {holder.command for holder in holders}
    return ", ".join(
        f"{name} ({', '.join(map(str, pids))})" if name in commands else name
        for name, pids in groups.items()
    )


def name_stop(holder: Holder) -> str:
    """How what a process belongs to is stopped: a command, or its own name where there is none."""
    container = holder.container
    if container and container.engine in ("docker", "podman"):
        return f"{container.engine} stop {container.short}"
    if is_proxy(holder):
        return "docker stop CONTAINER (docker ps)"
    manager = "systemctl --user" if holder.is_users else "systemctl"
    if holder.unit:
        return f"{manager} stop {holder.unit}"
    if holder.command == "systemd":  # it has the listener for a .socket unit
        return f"{manager} stop NAME.socket ({manager} list-sockets)"
    return holder.command


def try_publishing(ruling: Ruling, _sight: Sight) -> Iterator[Advice]:
    """Another port of the host's for a container whose port is published."""
    if any(is_proxy(holder) for holder in holders_of(taken_of(ruling))):
        yield Advice("publish")


def try_handing_over(ruling: Ruling, _sight: Sight) -> Iterator[Advice]:
    """The socket itself, where it is a listener that somebody has."""
    there = taken_of(ruling)
    if any(is_proxy(holder) for holder in holders_of(there)):
        return
    if any(taken.row.state == "LISTEN" and taken.row.inode for taken in there):
        yield Advice("hand-over")
