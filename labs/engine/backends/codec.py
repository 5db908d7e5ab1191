"""Calls and observations, as agents and warm parents read and write them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from labs.engine.errors import EngineError
from labs.engine.model import (
    Address,
    Call,
    CallResult,
    Credentials,
    Observation,
    OpenSocket,
    ProcessRow,
    Reference,
    SocketRow,
    Value,
)

if TYPE_CHECKING:
    from labs.engine.agent import Json, Message


def encode_call(call: Call) -> Json:
    """A call as the agent reads it."""
    return [call.name, [encode_argument(argument) for argument in call.arguments]]


def encode_argument(argument: object) -> Json:
    """An argument as JSON."""
    match argument:
        case int() | str():
            return argument
        case Reference(index):
            return {"reference": index}
        case tuple():
            return [encode_argument(part) for part in argument]
    raise TypeError(argument)


def decode_result(result: Json) -> CallResult:
    """A call's result as the agent writes it."""
    match result:
        # `int(number)` would look in vain for int.__match_args__ first, which takes far longer.
        case [value, int() as number, list() as uids]:
            return CallResult(decode_value(value), number, decode_credentials(uids))
    raise EngineError(f"An agent answered nonsense: {result}")


def decode_value(value: Json) -> Value:
    """What a call returned; accept() gives the descriptor alone, the peer is asked for."""
    match value:
        case None | int() | str():
            return value
        case [int(descriptor), [str(), int()]]:
            return descriptor
        case [str(host), int(port)]:
            return (host, port)
        case dict():
            return {name: count for name, count in value.items() if isinstance(count, int)}
    raise EngineError(f"An agent answered nonsense: {value}")


def decode_credentials(uids: list[Json]) -> Credentials:
    """Four uids in the order of /proc/PID/status."""
    return make_credentials(tuple(uids))


@functools.cache  # one call after the other comes with the same ones
def make_credentials(uids: tuple[Json, ...]) -> Credentials:
    """Credentials of four uids."""
    real, effective, saved, filesystem = (int(str(uid)) for uid in uids)
    return Credentials(real, effective, saved, filesystem)


def decode_observation(answer: Message) -> Observation:
    """What a host's warm parent has observed."""
    match answer:
        case {"sockets": list(sockets), "processes": list(processes)}:
            return Observation(
                tuple(decode_socket(entry) for entry in sockets),
                tuple(decode_process(entry) for entry in processes),
            )
    raise EngineError(f"A host answered nonsense: {answer}")


def decode_address(address: Json) -> Address:
    """An address and a port."""
    match address:
        case [str(host), int(port)]:
            return (host, port)
    raise EngineError(f"A host answered nonsense: {address}")


def decode_socket(entry: Json) -> SocketRow:
    """A socket as its host's warm parent writes it."""
    match entry:
        case [
            str(protocol),
            str(state),
            local,
            peer,
            int(uid),
            int(inode),
            int(receive_queue),
            int(send_queue),
            str(timer),
            int(expires),
        ]:
            return SocketRow(
                protocol,
                state,
                decode_address(local),
                decode_address(peer),
                uid,
                inode,
                receive_queue,
                send_queue,
                timer,
                expires,
            )
    raise EngineError(f"A host answered nonsense: {entry}")


def decode_process(entry: Json) -> ProcessRow:
    """A process as its host's warm parent writes it."""
    match entry:
        case {
            "pid": int(pid),
            "uids": list(uids),
            "capabilities": int(capabilities),
            "sockets": list(sockets),
        }:
            opened = tuple(decode_open_socket(open_socket) for open_socket in sockets)
            # An image may be older than this.
            command = str(entry.get("command", "")) if isinstance(entry, dict) else ""
            return ProcessRow(pid, decode_credentials(uids), capabilities, opened, command)
    raise EngineError(f"A host answered nonsense: {entry}")


def decode_open_socket(entry: Json) -> OpenSocket:
    """A descriptor of a process that refers to a socket."""
    match entry:
        case [int(descriptor), int(inode), bool(reuseaddr), bool(reuseport)]:
            return OpenSocket(descriptor, inode, reuseaddr, reuseport)
    raise EngineError(f"A host answered nonsense: {entry}")
