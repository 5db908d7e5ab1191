"""A trial: one run of a challenge's check, which starts a strange program and looks at it.

The check is a script as a lab's is, and each of its steps states what is required. What the program
does is judged by what the kernel says of its sockets and processes, and by what its clients get;
its text is not looked at. The first step that goes otherwise ends the trial.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING

from labs.engine.answers import Answers
from labs.engine.capabilities import capability_mask
from labs.engine.errors import LabError
from labs.engine.model import Call, Credentials, Failed, ProcessRow, Verdict
from labs.engine.programs import Program
from labs.engine.remote import Process
from labs.engine.script import CallError, Run, Step
from labs.engine.translation import read_translation
from labs.engine.waiting import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from labs.engine.model import Address, Expectation, Outcome, StepStarted, Value
    from labs.engine.programs import HasPid
    from labs.engine.remote import Host, Socket
    from labs.engine.session import Session
    from labs.engine.submission import Submission
    from labs.engine.translation import Translation

    Item = TypeVar("Item")

WORDS = Path(__file__).parent  # where the translation of what stands here is
PATIENCE = 5.0  # seconds for a program to do what it is started for
PIECE = 96 << 10  # bytes of a file in one message
OWN = ".check"  # the folder of a check's own programs; a submission has no hidden ones
LAST_LINES = 4  # of a program that has ended
SHORTEST_WAIT = 0.001  # seconds; 0 would mean to wait for ever (SO_RCVTIMEO of socket(7))
MOST_WORDS = 80  # bytes that a connection gets
SOME_REQUESTS = 100  # of a load, that are waited for at a time

# What is said of any program, where the check itself has nothing that fits better.
EXCEEDED = {
    "processes": "Your program had more than 50 processes at once. All of them were ended.",
    "memory": "Your program took more than 512 MiB of memory. All its processes were ended.",
    "seconds": "Your program was still at work after two minutes, and was ended.",
}
ENDED = (
    "Your program has ended by itself, with status {status}. The lines above are its last words."
)
ENDED_SILENT = "Your program has ended by itself, with status {status}, and without a word."
SIGNALLED = "Your program was ended by signal {signal}."
NOT_STARTED = {
    "ENOENT": "The first line of your program names an interpreter that is not on this machine, or "
    "that a sandbox does not see: only what is in /usr, /opt and /nix is there.",
    "ENOEXEC": "Your program is neither a compiled one nor does it begin with #! and the path of "
    "its interpreter.",
}
# The names of advice that any challenge may give.
OF_ANY_PROGRAM = ("ended", "not-started", *EXCEEDED)


class TrialOver(Exception):
    """Raised after a step that went otherwise: what comes after it cannot be judged."""


@dataclass(frozen=True)
class Threads:
    """What the threads of a process do: all, those that sleep or are stopped, their sleeps."""

    threads: int
    asleep: int
    stopped: int
    sleeps: int

    @property
    def all_sleep(self) -> bool:
        """Whether none of them runs."""
        return self.asleep == self.threads

    @property
    def are_stopped(self) -> bool:
        """Whether none of them can run, by SIGSTOP."""
        return self.stopped == self.threads


class Trial(Run):
    """One run of a check, as its script sees it."""

    def __init__(
        self,
        session: Session,
        translation: Translation,
        submission: Submission,
        advice: Mapping[str, str],
    ) -> None:
        super().__init__(session, translation)
        self._submission = submission
        self._advice = advice
        self._sandboxes: dict[str, Process] = {}
        self._programs: list[Program] = []
        self._let_go: set[str] = set()
        self._written: set[tuple[str, str]] = set()

    def uid(self, user: str) -> int:
        """The uid of a user, to give it to the program."""
        return self._session.layout.uid(user)

    def shuffled(self, items: Iterable[Item]) -> list[Item]:
        """Some items in an order that --seed changes."""
        return self._session.layout.shuffled(items)

    def step(  # type: ignore[override]  # what is required has no rule, and nothing comes soon
        self, title: str, *, expect: Expectation, why: str, **values: object
    ) -> Requirement:
        """What is required of the program, and why; the trial ends where it is not met."""
        plan = self._plan_step(title, expect, why, values)
        return Requirement(self._session, plan, self._translation, self)

    def start(
        self,
        name: str,
        host: Host,
        *arguments: object,
        user: str,
        capabilities: Sequence[str] = (),
    ) -> Program:
        """Start the program on a host under a user, with these arguments; inside of a step.

        `name` is what the run calls it. It has the capabilities(7) that are named and no others.
        """
        started = self._start(
            self._submission.program, name, host, arguments, user=user, capabilities=capabilities
        )
        self._programs.append(started)
        return started

    def start_own(
        self,
        name: str,
        host: Host,
        file: Path,
        *arguments: object,
        user: str,
        capabilities: Sequence[str] = (),
    ) -> Program:
        """Start a program of the check's own, a file beside it, where the trainee's can see it.

        Its end is nothing wrong of the trainee's program; nor are its last words shown.
        """
        path = f"{OWN}/{file.name}"
        starter = self._sandbox(host)
        if (host.name, path) not in self._written:
            self._written.add((host.name, path))
            self._write(starter, path, file.read_bytes(), True)
        return self._start(path, name, host, arguments, user=user, capabilities=capabilities)

    def settle(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Wait until the condition holds; False where it does not in time, or a program ends.

        The end of a program is nothing wrong after `expect_end`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.ended():
                return condition()
            time.sleep(INTERVAL)
        return True

    def ask(self, client: Process, address: Address, count: int, words: str = "") -> Answers:
        """The same as `Process.request`, but for the first that times out, which is the last."""
        answers = Answers.none()
        while answers.asked < count and not answers.timed_out:
            left = count - answers.asked if answers.asked else 1
            (result,) = client.perform(Call("request", (address, left, 0, words)))
            answers = answers.joined(Answers.of(result))
        return answers

    def speak(self, connections: Sequence[Socket], words: str = "") -> list[str]:
        """Say the words on each connection: what each gets then, empty where that is nothing.

        All of them together are waited for as long as one program is.
        """
        for connection in connections:
            with contextlib.suppress(CallError):  # it was reset
                if words:
                    connection.send(words)
        deadline = time.monotonic() + PATIENCE
        return [self._hear(connection, deadline) for connection in connections]

    def wait_for_load(self, client: Process, count: int) -> bool:
        """The same as `Process.wait_for_requests`; False where they do not come to their end."""
        (result,) = client.perform(Call("wait_for_requests", (count,)))
        return bool(result.value)

    def end_load(self, client: Process, count: int) -> Answers:
        """End a load when so many more requests have come to their end, or none does any more."""
        while count > 0 and self.wait_for_load(client, min(count, SOME_REQUESTS)):
            count -= SOME_REQUESTS
        (result,) = client.perform(Call("stop"))
        return Answers.of(result)

    def write_text(self, host: Host, name: str, text: str) -> None:
        """Write a file anew that programs on a host read as /tmp/NAME."""
        self._session.consult(self._sandbox(host).name, Call("write_tmp", (name, text)))

    def expect_end(self, program: Program) -> None:
        """From now on it is nothing wrong if this program ends."""
        self._let_go.add(program.name)

    def ended(self) -> list[Program]:
        """The programs that have ended and should not have."""
        return [
            program
            for program in self._programs
            if program.name not in self._let_go and program.status is not None
        ]

    def family(self, program: Program) -> list[ProcessRow]:
        """The processes that came of a program and run: itself, its children, and theirs."""
        rows = {row.pid: row for row in program.host.processes()}
        found: list[ProcessRow] = []
        pids = [program.pid]
        while pids:
            pid = pids.pop()
            if pid in rows:
                found.append(rows[pid])
                pids += self._sandboxes[program.host.name].list_children(rows[pid])
        return found

    def listeners(self, program: Program, port: int) -> list[int]:
        """The inodes of the listeners on a port that processes of a program hold."""
        held = {socket.inode for row in self.family(program) for socket in row.sockets}
        return [inode for inode in program.host.queues(port) if inode in held]

    def signal(self, host: Host, processes: Sequence[HasPid], number: int) -> None:
        """kill(2): a signal to processes of programs on a host, but those that have ended."""
        for process in processes:
            with contextlib.suppress(CallError):
                self._sandboxes[host.name].send_signal(process, number)

    def stop(self, host: Host, processes: Sequence[HasPid]) -> None:
        """SIGSTOP; returns when not one of their threads runs any more.

        Only then they accept nothing more: kill(2) returns before the signal has come.
        """
        self.signal(host, processes, SIGSTOP)
        self.settle(lambda: all(self.threads(host, process).are_stopped for process in processes))

    def go_on(self, host: Host, processes: Sequence[HasPid]) -> None:
        """SIGCONT to processes that were stopped."""
        self.signal(host, processes, SIGCONT)

    def are_asleep(self, host: Host, processes: Sequence[HasPid]) -> bool:
        """Whether all threads of these processes sleep: they wait for something."""
        return all(self.threads(host, process).all_sleep for process in processes)

    def threads(self, host: Host, process: HasPid) -> Threads:
        """What the threads of one process of a program do now; it has none when it has ended."""
        counts = as_counts(self._look(host, "read_threads", process.pid))
        return Threads(*(counts[name] for name in ("threads", "asleep", "stopped", "sleeps")))

    def find_elsewhere(self, program: Program) -> dict[int, int]:
        """The threads of a program that are in another network namespace than its host's.

        By their ids, as the host has them, with the inode of the namespace.
        """
        here = {*self._networks(program.host, self._sandboxes[program.host.name].pid).values()}
        return {
            int(thread): inode
            for row in self.family(program)
            for thread, inode in self._networks(program.host, row.pid).items()
            if inode not in here
        }

    def reaches(self, client: Process, address: Address) -> bool:
        """Whether a client is answered there now; no call of the lab's."""
        try:
            result = self._session.consult(client.name, Call("request", (address, 1, 0, "")))
        except CallError:
            return False
        return bool(as_counts(result)["answered"])

    def find(self, program: Program, pid: str) -> ProcessRow | None:
        """The process of a program's host that calls itself this pid, as it is in its sandbox."""
        for row in program.host.processes():
            status = str(self._look(program.host, "read_status", row.pid))
            if status.partition("\nNSpid:")[2].partition("\n")[0].split()[1:] == [pid]:
                return row
        return None

    def find_fault(self) -> tuple[str, str, Mapping[str, object]] | None:
        """What went wrong with any program, whatever it was for: advice by name, with values."""
        for sandbox in self._sandboxes.values():
            kind = str(self._session.consult(sandbox.name, Call("read_exceeded")))
            if kind:
                return kind, EXCEEDED[kind], {}
        for program in self.ended():
            status = program.status or 0
            if status < 0:
                return "ended", SIGNALLED, {"signal": -status}
            words = ENDED if program.output.strip() else ENDED_SILENT
            return "ended", words, {"status": status}
        return None

    def tell_endings(self) -> None:
        """Show how programs have ended that should not have, and what they wrote last."""
        for program in self.ended():
            for line in program.output.splitlines()[-LAST_LINES:]:
                self._session.quote(program.name, line)
            status = program.status or 0
            how = f"killed by signal {-status}" if status < 0 else f"exited with {status}"
            self._session.tell(program.name, f"+++ {how} +++")

    def advice(self, name: str) -> str:
        """The advice of this name; LabError where the challenge has none."""
        if name not in self._advice:
            raise LabError(f"The challenge has no advice named {name}.")
        return self._advice[name]

    def _networks(self, host: Host, pid: int) -> Mapping[str, int]:
        return as_counts(self._look(host, "read_networks", pid))

    def _look(self, host: Host, name: str, pid: int) -> Value:
        """What the sandbox's agent sees of a process; no call of the lab's."""
        sandbox = self._sandboxes[host.name]
        return self._session.consult(sandbox.name, Call(name, (pid,)))

    def _start(
        self,
        path: str,
        name: str,
        host: Host,
        arguments: Sequence[object],
        *,
        user: str,
        capabilities: Sequence[str],
    ) -> Program:
        """Start a program of a host's sandbox."""
        sandbox = self._sandbox(host)
        uid = self.uid(user)
        words = tuple(str(argument) for argument in arguments)
        call = Call("execve", (path, words, uid, capability_mask(capabilities)))
        shown = f"execve({json.dumps(path)}, {json.dumps([path, *words])})"
        credentials = Credentials(uid, uid, uid, uid)
        pid = self._session.start_program(sandbox.name, name, call, shown, credentials)
        return Program(self._session, sandbox, name, pid, is_known=True)

    def _hear(self, connection: Socket, deadline: float) -> str:
        """What comes next on a connection; empty at its end, and where nothing comes in time."""
        seconds = max(deadline - time.monotonic(), SHORTEST_WAIT)
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000)).decode("latin-1")
        arguments = connection.descriptor, socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit
        self._session.consult(connection.process.name, Call("setsockopt", arguments))
        with contextlib.suppress(CallError):
            return connection.recv(MOST_WORDS).strip()
        return ""

    def _sandbox(self, host: Host) -> Process:
        """The sandbox of a host, which has the submission's files."""
        if host.name not in self._sandboxes:
            name = f"init-{host.name}" if self._sandboxes else "init"
            pid = self._session.start_process(name, host.name, "root", (), "", "", sandbox=True)
            sandbox = self._sandboxes[host.name] = Process(self._session, name, host, pid)
            for file in self._submission.files:
                self._write(sandbox, file.path, file.content, file.is_executable)
        return self._sandboxes[host.name]

    def _write(self, sandbox: Process, path: str, content: bytes, is_executable: bool) -> None:
        """Write a file into a sandbox."""
        for call in write_calls(path, content, is_executable):
            self._session.consult(sandbox.name, call)


def as_counts(value: Value) -> Mapping[str, int]:
    """What was counted, by name."""
    assert isinstance(value, Mapping)
    return value


def write_calls(path: str, content: bytes, is_executable: bool) -> Iterable[Call]:
    """The calls by which a file comes to a sandbox."""
    mode = 0o555 if is_executable else 0o444
    for start in range(0, max(len(content), 1), PIECE):
        piece = base64.b64encode(content[start : start + PIECE]).decode()
        yield Call("write_file", (path, piece, mode))


class Requirement(Step):
    """A step of a check: what is required; it may have advice for when it is not met."""

    def __init__(
        self, session: Session, plan: StepStarted, translation: Translation, trial: Trial
    ) -> None:
        super().__init__(session, plan, translation)
        self._trial = trial
        self._chosen: tuple[str, Mapping[str, object]] | None = None

    def advise(self, name: str, *, when: bool = True, **values: object) -> None:
        """Give this advice if the step goes otherwise; of several the last that fits."""
        if when:
            self._trial.advice(name)
            self._chosen = name, values

    def _end(self, outcome: Outcome, verdict: Verdict) -> None:
        if verdict is not Verdict.DIFFERS:
            super()._end(outcome, verdict)
            return
        self._trial.tell_endings()
        super()._end(outcome, verdict)
        self._give_advice(outcome)
        raise TrialOver

    def _give_advice(self, outcome: Outcome) -> None:
        fault = self._trial.find_fault()
        if isinstance(outcome, Failed) and outcome.call == "execve":
            text = NOT_STARTED.get(outcome.errno)
            fault = ("not-started", text, {}) if text else None
        if fault and (fault[0] != "ended" or self._chosen is None):
            name, template, values = fault
            say = read_translation(WORDS, self._translation.language)
        elif self._chosen:
            name, values = self._chosen
            template, say = self._trial.advice(name), self._translation
        else:
            return
        self._session.advise(name, say.text(template, values))
