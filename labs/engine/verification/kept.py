"""Sequences that are kept as files, to be asked of kernels again: one JSON document each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError, UsageError
from labs.engine.model import name_errno
from labs.engine.rules.calls import (
    Accept,
    Acknowledge,
    Bind,
    Chown,
    Close,
    Connect,
    Listen,
    Open,
    Option,
    SetOption,
)
from labs.engine.rules.sockets import Family, Protocol
from labs.engine.verification.cell import USERS, Cell, predict
from labs.engine.verification.witness import LOW_PORT, OTHER_PORT, PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from labs.engine.agent import Json
    from labs.engine.rules.calls import Call, User
    from labs.engine.rules.rulebook import Rulebook
    from labs.engine.verification.comparison import Mismatch

SCHEMA = 1
SHIPPED = Path(__file__).with_name("kept")
SUFFIX = ".json"
PORTS = (PORT, OTHER_PORT, LOW_PORT, 0)
UIDS = range(2**32 - 1)  # the last stands for none, see chown(2)
PLAIN: dict[str, type[Listen | Close | Acknowledge]] = {
    "listen": Listen,
    "close": Close,
    "acknowledge": Acknowledge,
}
NAMES: dict[type[Call], str] = {
    Open: "socket",
    SetOption: "setsockopt",
    Chown: "fchown",
    Bind: "bind",
    Connect: "connect",
    Accept: "accept",
    **{kind: name for name, kind in PLAIN.items()},
}
BY_NAME = {user.name: user for user in USERS}


@dataclass(frozen=True)
class Origin:
    """Where a mismatch was found: the kernel as it was asked for, its release, seed and date."""

    kernel: str
    release: str
    seed: int
    date: str


def keep(mismatch: Mismatch, origin: Origin, folder: Path) -> Path:
    """Write a mismatch to a file of its own in a folder, which is made; raises EngineError."""
    answered = [name_errno(number) if number else "OK" for number in mismatch.errnos]
    document: dict[str, Json] = {
        "schema": SCHEMA,
        "about": f"found on {origin.kernel}, {origin.release}",
        "kernel": origin.kernel,
        "release": origin.release,
        "seed": origin.seed,
        "date": origin.date,
        "calls": [encode_call(call) for call in mismatch.cell.calls],
        "answered": [*answered],
        "model": mismatch.model,
        "shown": [*mismatch.lines()],
    }
    stem = f"{Path(origin.kernel).name}-{origin.release}-seed-{origin.seed}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{stem}{SUFFIX}"
        path.write_text(show_document(document))
    except OSError as error:
        raise EngineError(f"Could not keep a sequence in {folder}: {error.strerror}.") from error
    return path


def show_document(document: dict[str, Json]) -> str:
    """A document as JSON, with each call on a line of its own."""
    lines = []
    for name, value in document.items():
        content = json.dumps(value)
        if isinstance(value, list) and value:
            inner = ",\n    ".join(json.dumps(one) for one in value)
            content = f"[\n    {inner}\n  ]"
        lines.append(f"  {json.dumps(name)}: {content}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_kept(names: str) -> tuple[Cell, ...]:
    """The sequences of files, and of folders with files, with commas between; UsageError."""
    paths = [path for name in filter(None, names.split(",")) for path in find_files(Path(name))]
    if not paths:
        raise UsageError(f"There is no kept sequence in {names!r}.")
    return tuple(read_file(path) for path in paths)


def find_files(path: Path) -> list[Path]:
    """A file itself, or the kept ones of a folder in the order of their names."""
    return sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]


def read_file(path: Path) -> Cell:
    """The sequence of a file; UsageError where it has none."""
    try:
        document = json.loads(path.read_text())
        match document:
            case {"schema": 1, "about": str(about), "calls": [_, *_] as calls}:
                cell = Cell(f"{path.stem}: {about}", tuple(decode_call(call) for call in calls))
            case _:
                raise UsageError(f"{path} has no kept sequence of schema {SCHEMA}.")
    except OSError as error:
        raise UsageError(f"Could not read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} has no kept sequence: {error}.") from error
    return cell


def check_calls(cell: Cell, rulebook: Rulebook) -> None:
    """UsageError where a sequence has a call that nobody could make as it stands there."""
    check_holders(cell)
    try:
        for _ in predict(cell, rulebook):
            pass
    except (KeyError, ValueError) as error:
        raise UsageError(f"{cell.about}: the rules do not speak of this: {error}.") from error


def check_holders(cell: Cell) -> None:
    """UsageError where a call's user does not hold its socket, or an address is none of its."""
    held: dict[str, tuple[User, Family]] = {}
    for call in cell.calls:
        if isinstance(call, Open):
            held[call.socket] = call.user, call.family
            continue
        user, family = held.get(call.socket, (None, None))
        if user != call.user:
            raise UsageError(f"{cell.about}: {call.user.name} has no socket {call.socket}.")
        match call:
            case Bind(address=address) | Connect(address=address):
                if (":" in address) != (family is Family.IPV6):
                    raise UsageError(f"{cell.about}: {address} is no address of {family}.")
            case Accept(child=child):
                held[child] = held[call.socket]
            case Close(socket=socket):
                del held[socket]


# --- calls, as lists of words and numbers -------------------------------------------------


def encode_call(call: Call) -> Json:
    """A call: its name, who makes it, on which socket, and what else there is to it."""
    return [NAMES[type(call)], call.user.name, call.socket, *encode_rest(call)]


def encode_rest(call: Call) -> Iterator[Json]:
    """What there is to a call beside its user and its socket."""
    match call:
        case Open(_, _, protocol, family):
            yield from (str(protocol), str(family))
        case SetOption(_, _, option, value):
            yield from (str(option), value)
        case Chown(_, _, uid):
            yield uid
        case Bind(_, _, address, port):
            yield from (address, port)
        case Connect(_, _, address, port, child):
            yield from (address, port, child)
        case Accept(_, _, child):
            yield child


def decode_cell(calls: Json) -> Cell:
    """The sequence whose calls were encoded; ValueError where it is none."""
    if not isinstance(calls, list):
        raise ValueError(f"{calls} are no calls")  # noqa: TRY004
    return Cell("", tuple(decode_call(call) for call in calls))


def decode_call(call: Json) -> Call:
    """The call that was encoded so; ValueError where it is none."""
    match call:
        case [str(name), str(who), str(socket), *rest] if who in BY_NAME:
            user = BY_NAME[who]
            match name, rest:
                case "socket", [str(protocol), str(family)]:
                    return Open(user, socket, Protocol(protocol), Family(family))
                case "setsockopt", [str(option), bool() | str() as value]:
                    return SetOption(user, socket, Option(option), value)
                case "fchown", [int(uid)] if uid in UIDS:
                    return Chown(user, socket, uid)
                case "bind", [str(address), int(port)] if port in PORTS:
                    return Bind(user, socket, address, port)
                case "connect", [str(address), int(port), str(child)] if port in PORTS:
                    return Connect(user, socket, address, port, child)
                case "accept", [str(child)]:
                    return Accept(user, socket, child)
                case "listen" | "close" | "acknowledge", []:
                    return PLAIN[name](user, socket)
    raise ValueError(f"{call} is no call")
