"""The JUnit view: what came of a run's steps, in the XML form that continuous integration reads."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, TextIO
from xml.etree import ElementTree as ET

from labs.engine.model import (
    CallMade,
    Event,
    Predicted,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    Verdict,
)
from labs.engine.strace import show_address
from labs.engine.views.json import open_whole_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from labs.engine.model import Evidence, SocketEvidence

# What XML 1.0 cannot hold, even escaped.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# The element that says what came of a step, and the count of its suite that it belongs to.
ELEMENTS = {
    Verdict.DIFFERS: ("failure", "failures"),
    Verdict.FAILED: ("error", "errors"),
    Verdict.SKIPPED: ("skipped", "skipped"),
}
COUNTS = ("tests", "failures", "errors", "skipped")


class JunitView:
    """Collects the steps of runs: a run is a test suite, each step a test case of it."""

    def __init__(self) -> None:
        self._root = ET.Element("testsuites", name="bindlab")
        self._suite = self._root
        self._case: ET.Element | None = None  # of the step that is open
        self._step: StepStarted | None = None
        self._calls: list[CallMade] = []
        self._counts = dict.fromkeys(COUNTS, 0)
        self._run_began = self._step_began = 0.0

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case RunStarted():
                self._start_run(event)
            case StepStarted():
                self._step, self._calls = event, []
                self._case = self._add_case(f"{event.number} {event.title}")
                self._step_began = time.monotonic()
            case Predicted():
                self._step_began = time.monotonic()  # to think is no part of the step
            case CallMade():
                self._calls.append(event)
            case StepEnded():
                self._end_step(event)
            case RunEnded():
                self._end_run(event)

    def write(self, stream: TextIO) -> None:
        """Write the document."""
        write_suites(self._root, stream)

    # --- a run ---

    def _start_run(self, event: RunStarted) -> None:
        self._suite = ET.SubElement(self._root, "testsuite", name=writable(event.lab))
        self._suite.set("timestamp", event.started.removesuffix("Z"))
        self._counts = dict.fromkeys(COUNTS, 0)
        self._case, self._run_began = None, time.monotonic()
        values = {
            "title": event.title,
            "kernel": event.kernel,
            "machine": event.machine,
            "backend": event.backend,
            "seed": "" if event.seed is None else str(event.seed),
            "version": event.version,
        }
        properties = ET.SubElement(self._suite, "properties")
        for name, value in values.items():
            ET.SubElement(properties, "property", name=name, value=writable(value))

    def _end_run(self, event: RunEnded) -> None:
        if self._case is not None:  # whoever carried it through has died
            self._close_case("error", "errors", "the step did not come to its end", "")
        if event.error:
            self._case, self._step_began = self._add_case("the run"), time.monotonic()
            self._close_case("error", "errors", event.error, event.hint)
        for name, count in self._counts.items():
            self._suite.set(name, str(count))
        self._suite.set("time", seconds_since(self._run_began))

    # --- a step ---

    def _end_step(self, event: StepEnded) -> None:
        if event.verdict not in ELEMENTS:
            self._close_case()
            return
        element, count = ELEMENTS[event.verdict]
        if event.verdict is Verdict.SKIPPED:
            self._close_case(element, count, str(event.outcome))
            return
        assert self._step is not None
        message = f"expected {self._step.expected}, observed {event.outcome}"
        text = "\n".join([*map(show_call, self._calls), *show_evidence(event.evidence)])
        self._close_case(element, count, message, text)

    def _add_case(self, name: str) -> ET.Element:
        self._counts["tests"] += 1
        class_name = f"bindlab.{self._suite.get('name')}"
        return ET.SubElement(self._suite, "testcase", classname=class_name, name=writable(name))

    def _close_case(
        self, element: str = "", count: str = "", message: str = "", text: str = ""
    ) -> None:
        assert self._case is not None
        case, self._case = self._case, None
        case.set("time", seconds_since(self._step_began))
        if element:
            self._counts[count] += 1
            found = ET.SubElement(case, element, message=writable(message))
            found.text = writable(text) or None


def open_junit_view(name: str) -> AbstractContextManager[JunitView]:
    """The view that writes to a file, `-` being standard output.

    It is opened at once, and replaced whole when the block ends without an error or not at all, as
    the record is. UsageError where it cannot be opened, EngineError where the writing fails.
    """
    return open_whole_view(name, JunitView())


def write_suites(suites: ET.Element, stream: TextIO) -> None:
    """Write test suites as a document."""
    ET.indent(suites)
    stream.write('<?xml version="1.0" encoding="utf-8"?>\n')
    stream.write(ET.tostring(suites, encoding="unicode"))
    stream.write("\n")


def show_call(call: CallMade) -> str:
    """A call as strace would show it."""
    result = f"  = {call.result}" if call.result else ""
    return f"{call.process}/{call.uid}  {call.call}{result}"


def show_evidence(evidence: Iterable[Evidence]) -> Iterator[str]:
    """The sockets of hosts, a line each."""
    for host in evidence:
        for socket in host.sockets:
            yield f"{host.host}: {show_socket(socket)}"


def show_socket(evidence: SocketEvidence) -> str:
    """A socket: its ends, its state, its owner and who holds it."""
    row = evidence.row
    holders = ", ".join(evidence.holders) or "nobody"
    ends = f"{show_address(row.local)} to {show_address(row.peer)}"
    return f"{row.protocol} {ends} {row.state} of uid {row.uid}, held by {holders}"


def seconds_since(moment: float) -> str:
    """The seconds since a moment, to the millisecond."""
    return f"{time.monotonic() - moment:.3f}"


def writable(text: str) -> str:
    """A text without what XML cannot hold."""
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)
