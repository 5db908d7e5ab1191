"""Reading what runs have left: events, the inverse of `record.event_line`, and documents.

What a line may hold follows from the type hints of the model's data classes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import reprlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from labs.engine.errors import ExitStatus, UsageError
from labs.engine.model import RunStarted
from labs.engine.record import EVENTS, KINDS, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from labs.engine.agent import Json
    from labs.engine.model import Event

    Reader: TypeAlias = Callable[[Json], Any]
    """Makes a value of the model; ValueError where the JSON is none."""

Found = TypeVar("Found")

# The names of all events stand beside it in one message.
SHORTENER = reprlib.Repr()
SHORTENER.maxlist = 4

# What fields without a default stand at in records that are older than they are.
LATER: dict[type, dict[str, object]] = {RunStarted: {"claim": "", "machine": ""}}

LARGEST = 2**64  # an inode, or a mask, is a number of 64 bits

# Types that JSON has itself, and which of its values are theirs: a bool is no int.
SCALARS: dict[type, set[type]] = {
    str: {str},
    int: {int},
    float: {float, int},
    bool: {bool},
    NoneType: {NoneType},
}


def read_event(line: Json) -> Event:
    """The event of a line; ValueError with the reason for what is no event of this schema."""
    fields = dict(members(line))
    schema = fields.pop("schema", None)
    if type(schema) is not int or schema != SCHEMA:
        raise ValueError(f"schema {show(schema)} is not {SCHEMA}")
    event: Event = event_reader()(fields)
    return event


def read_file(name: str, read: Callable[[Json], Found], fault: str, hint: str) -> Found:
    """What is read from the JSON document of a file; UsageError where that cannot be.

    `read` raises ValueError for what is not of its form, and `fault` says in words what the file
    then is.
    """
    return read_words(name, lambda words: read(json.loads(words)), fault, hint)


def read_words(name: str, read: Callable[[str], Found], fault: str, hint: str) -> Found:
    """What is read from the text of a file, as `read_file` does."""
    try:
        return read(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} {fault}: {error}.", hint) from None


def read_text(fields: Mapping[str, Json], name: str) -> str:
    """The text of this name; raises ValueError."""
    text: str = reader(str)(fields.get(name))
    return text


def read_status(fields: Mapping[str, Json]) -> ExitStatus:
    """The exit status of a run; raises ValueError for one that no run has."""
    status = ExitStatus(reader(int)(fields.get("status")))
    if status in (ExitStatus.USAGE, ExitStatus.INTERRUPTED):
        raise ValueError(f"status {int(status)} is none of a run")
    return status


@functools.cache
def event_reader(is_older: bool = False) -> Reader:
    """The reader of events, without the schema's number."""
    return tagged_reader("event", {name: event for event, name in EVENTS.items()}, is_older)


@functools.cache
def reader(hint: Any, is_older: bool = False) -> Reader:
    """The reader of values of a type; of what `is_older` fields may be missing (see `usual`)."""
    origin, parts = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return instance_reader(hint, is_older)
    kinds = [part for part in parts if part is not NoneType]
    if origin is UnionType and KINDS.keys() >= set(kinds):
        read = tagged_reader("kind", {KINDS[part]: part for part in kinds}, is_older)
        return optional_reader(read) if NoneType in parts else read
    if origin is UnionType and isinstance(kinds[0], type) and is_dataclass(kinds[0]):
        return optional_reader(instance_reader(kinds[0], is_older))
    if origin is Mapping:
        return mapping_reader(*(reader(part, is_older) for part in parts))
    if origin is tuple and parts[-1] is ...:
        return sequence_reader(reader(parts[0], is_older))
    if origin is tuple:
        return row_reader([reader(part, is_older) for part in parts])
    if origin is None and issubclass(hint, StrEnum):
        return enum_reader(hint)
    return scalar_reader(parts or [hint])


def scalar_reader(types: Iterable[type]) -> Reader:
    """The reader of what is of one of these types."""
    accepted = {kind for part in types for kind in SCALARS[part]}
    names = " or ".join(part.__name__ for part in types)

    def read(value: Json) -> Json:
        if type(value) not in accepted:
            raise ValueError(f"{show(value)} is no {names}")
        # Python reads NaN and Infinity too, which are no JSON; no record has larger ones.
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:
            raise ValueError(f"{show(value)} is beyond what a record may have")
        return value

    return read


def optional_reader(read_part: Reader) -> Reader:
    """The reader of what may be null."""

    def read(value: Json) -> object:
        return None if value is None else read_part(value)

    return read


def enum_reader(enum: type[StrEnum]) -> Reader:
    """The reader of an enumeration's members."""
    named = {member.value: member for member in enum}

    def read(value: Json) -> StrEnum:
        return find(value, named)

    return read


def tagged_reader(tag: str, classes: Mapping[str, type], is_older: bool) -> Reader:
    """The reader of objects that say in the field `tag` of which class they are."""

    def read(value: Json) -> object:
        fields = dict(members(value))
        data_class = find(fields.pop(tag, None), classes)
        return instance_reader(data_class, is_older)(fields)

    return read


@functools.cache
def instance_reader(data_class: type, is_older: bool = False) -> Reader:
    """The reader of a data class's fields, of which none may be missing or surplus."""
    readers = {name: reader(hint, is_older) for name, hint in get_type_hints(data_class).items()}
    missable = usual(data_class) if is_older else {}

    def read(value: Json) -> object:
        fields = members(value)
        if fields.keys() != readers.keys():
            strange = fields.keys() ^ readers.keys()
            if not strange <= missable.keys():
                raise ValueError(f"{show(strange)} missing or surplus in {data_class.__name__}")
        values = []
        for name, read_field in readers.items():
            try:
                values.append(read_field(fields[name]) if name in fields else missable[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return data_class(*values)

    return read


def usual(data_class: type) -> dict[str, object]:
    """What fields have that may be missing in records of older schemas."""
    found = {}
    for field in dataclasses.fields(data_class):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found | LATER.get(data_class, {})


def mapping_reader(read_name: Reader, read_part: Reader) -> Reader:
    """The reader of an object that may have any names."""

    def read(value: Json) -> Mapping[str, object]:
        return {read_name(name): read_part(part) for name, part in members(value).items()}

    return read


def sequence_reader(read_part: Reader) -> Reader:
    """The reader of an array of any length, whose parts are all alike."""

    def read(value: Json) -> tuple[object, ...]:
        return tuple([read_part(part) for part in elements(value)])

    return read


def row_reader(readers: list[Reader]) -> Reader:
    """The reader of an array that has exactly these parts."""

    def read(value: Json) -> tuple[object, ...]:
        parts = elements(value)
        if len(parts) != len(readers):
            raise ValueError(f"{show(value)} is no array of {len(readers)}")
        return tuple([read_part(part) for read_part, part in zip(readers, parts, strict=True)])

    return read


def members(value: Json) -> dict[str, Json]:
    """What an object has; ValueError for what is none."""
    match value:
        case dict():
            return value
    raise ValueError(f"{show(value)} is no object")


def elements(value: Json) -> list[Json]:
    """What an array has; ValueError for what is none."""
    match value:
        case list():
            return value
    raise ValueError(f"{show(value)} is no array")


def find(name: Json, named: Mapping[str, Found]) -> Found:
    """What goes by a name; ValueError where nothing does."""
    if isinstance(name, str) and name in named:
        return named[name]
    raise ValueError(f"{show(name)} is none of {', '.join(named)}")


def show(value: object) -> str:
    """A value in short, for an error."""
    return SHORTENER.repr(value)
