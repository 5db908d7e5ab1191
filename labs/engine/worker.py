"""What a process does on its own for a while: answer connections, or make them and count.

Standard library only, like the agent in whose process it works, in a thread of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import resource
import select
import socket
import struct
import termios
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    Tally: TypeAlias = dict[str, int]

# How a server waits for connections.
ACCEPT, EPOLL, EXCLUSIVE, LOCK = "accept", "epoll", "exclusive", "lock"
WAYS = (ACCEPT, EPOLL, EXCLUSIVE, LOCK)

REQUEST_SECONDS = 5.0  # after which a request has timed out
# Between two requests of a client to a real server: it needs the processors, to reload for example.
HTTP_PAUSE = 0.002
HTTP = b"GET "  # what an HTTP request begins with
HTTP_SECONDS = 8.0  # the same where a real server may have to start first
LONGEST_LOAD = 30.0  # seconds
LONGEST_WAIT = 8.0  # seconds: for some of its requests; less than an agent may take to answer
LAST_START = 4.5  # seconds after which no request is begun in one message, for the same reason
MOST_REQUESTS = 50_000
LONGEST_ANSWER = 1 << 16  # bytes
LONGEST_NAME = 80  # characters of who answered
SHORTEST_WAIT = 0.001  # seconds; 0 would mean not to wait at all
SLEEP_SECONDS = 5.0  # for processes to fall asleep
SLEEP_INTERVAL = 0.0002
LONGEST_ROUND = 1.0  # seconds

ANSWERED, REFUSED, RESET, TIMED_OUT = "answered", "refused", "reset", "timed out"
OUTCOMES = (ANSWERED, REFUSED, RESET, TIMED_OUT)
SLOTS = 60  # of time, into which what came of a load is divided


class Lock:
    """A pipe with one byte in it: who has read that has the lock. Made before fork().

    Its return wakes one of those who wait for it, where a lock of fcntl(2) wakes all.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"\0")

    def __enter__(self) -> None:
        """Wait for it."""
        os.read(self._reading, 1)

    def __exit__(self, *_error: object) -> None:
        """Give it back."""
        os.write(self._writing, b"\0")


class Barrier:
    """Holds whoever comes until `count` have come, round after round. Made before fork().

    Nobody is held for longer than LONGEST_ROUND: then fewer have come, and that is what happened.
    """

    def __init__(self, count: int) -> None:
        self._reading, self._writing = os.pipe()
        self._count = count
        self._round = 0

    def wait(self) -> None:
        """Come, and wait for the others of this round."""
        self._round += 1
        os.write(self._writing, b"\0")
        end = time.monotonic() + LONGEST_ROUND
        while self._come() < self._count * self._round and time.monotonic() < end:
            os.sched_yield()  # never asleep: whoever waits for servers to sleep would go on

    def _come(self) -> int:
        """How many have come, in all rounds."""
        (size,) = struct.unpack("=i", fcntl.ioctl(self._reading, termios.FIONREAD, bytes(4)))
        return int(size)


class Server:
    """Accepts connections and answers each with a name, until it is stopped.

    By `accept` it waits in a blocking accept(), by `epoll` in an epoll instance of its own, by
    `exclusive` in one with EPOLLEXCLUSIVE (since 4.5), by `lock` in one too, but only while it
    has the `lock`. Between its wake-up and its accept() it is busy with something else for `pause`
    microseconds, and it waits for the others at the `barrier`, where there is one.
    """

    def __init__(
        self,
        listener: socket.socket,
        way: str,
        name: str,
        pause: int = 0,
        lock: Lock | None = None,
        barrier: Barrier | None = None,
    ) -> None:
        if way not in WAYS:
            raise ValueError(f"no way to wait: {way}")
        if way == LOCK and lock is None:
            raise ValueError("no lock")
        self._lock = lock if way == LOCK else None
        self._listener = listener
        self._way = way
        self._name = name.encode()
        self._barrier = barrier
        self._pause = pause / 1_000_000
        self._accepted = self._empty = self._switches = 0
        self._stops = False
        self._wake = os.eventfd(0)
        listener.setblocking(way == ACCEPT)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> Tally:
        """End it, and say what it did.

        `accepted` connections, `empty` wake-ups that found none, and its `switches`: how often it
        went to sleep (ru_nvcsw of getrusage(2), of its thread alone). Where it cannot be woken
        otherwise, the listener is shut down.
        """
        self._stops = True
        os.eventfd_write(self._wake, 1)
        if self._way in (ACCEPT, LOCK):
            with contextlib.suppress(OSError):  # another process has done it
                self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        os.close(self._wake)
        return {
            "accepted": self._accepted,
            "empty": self._empty,
            "switches": self._switches,
        }

    def _serve(self) -> None:
        before = count_switches()
        with contextlib.suppress(OSError):  # the listener is shut down
            self._accept_forever() if self._way == ACCEPT else self._poll()
        self._switches = count_switches() - before

    def _accept_forever(self) -> None:
        while not self._stops:
            self._answer()

    def _poll(self) -> None:
        events = select.EPOLLIN | (select.EPOLLEXCLUSIVE if self._way == EXCLUSIVE else 0)
        with select.epoll() as poll:
            poll.register(self._listener, events)
            poll.register(self._wake, select.EPOLLIN)
            while not self._stops:
                with self._lock or contextlib.nullcontext():
                    self._take(poll)

    def _take(self, poll: select.epoll) -> None:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if self._listener.fileno() not in ready:
            return
        if self._barrier:
            self._barrier.wait()
        if self._pause:
            time.sleep(self._pause)
        try:
            self._answer()
        except BlockingIOError:
            self._empty += 1

    def _answer(self) -> None:
        answer(self._listener, self._name)
        self._accepted += 1


def drain(listener: socket.socket, name: str) -> int:
    """Accept and answer what waits, until nothing does; how many."""
    listener.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            answer(listener, name.encode())
            count += 1
    return count


def answer(listener: socket.socket, name: bytes) -> None:
    """Accept a connection, answer it with a name and close it."""
    connection, _ = listener.accept()
    with connection, contextlib.suppress(OSError):  # the client has gone
        connection.send(name)


class UnexpectedAnswer(Exception):
    """A server has answered with something that no healthy one of its kind says."""


class Requests:
    """Connections to be made, one after the other, and what came of those that were.

    Every one is `answered` (and by whom: `by NAME`), `refused`, `reset` (or ended without a whole
    answer) or `timed out`. Bounded by `count` in all, MOST_REQUESTS and `seconds`. With a
    `first_port` each comes from the next port, counted from there. The client says the `words`
    first, such as an HTTP request; without any it waits for what a server says. Threads may
    share one.
    """

    def __init__(
        self,
        address: tuple[str, int],
        count: int,
        first_port: int = 0,
        words: str = "",
        seconds: float = LONGEST_LOAD,
    ) -> None:
        self._address = address
        self._words = words.encode()
        self._fault: Exception | None = None
        self._count = self._left = min(count, MOST_REQUESTS)
        self._is_stopped = False
        self._port = first_port
        self._end = time.monotonic() + seconds
        self._ended = threading.Condition()
        self._counts: dict[str, int] = dict.fromkeys(("asked", *OUTCOMES), 0)
        self._times: list[int] = []
        self._ends: list[tuple[int, str]] = []
        self._begun = self._ended_at = time.monotonic_ns()

    def make_all(self, pause: float = 0.0) -> None:
        """Make one after the other, with a pause in between, until no more is to be made."""
        while self.make_one():
            time.sleep(pause)

    def make_one(self) -> bool:
        """Make the next; whether there was one to be made."""
        port = self._next()
        if port is None:
            return False
        begun = time.monotonic_ns()
        try:
            outcome, who = ask(self._address, port, self._words)
        except Exception as fault:  # nobody hears of what ends a thread
            self._fault = fault
            self.stop()
            return False
        ended = time.monotonic_ns()
        with self._ended:
            for name in ("asked", outcome, *([f"by {who}"] if who else [])):
                self._counts[name] = self._counts.get(name, 0) + 1
            self._times.append(ended - begun)
            self._ends.append((ended, outcome))
            self._ended_at = ended
            self._ended.notify_all()
        return True

    def wait_for(self, count: int) -> bool:
        """Wait until so many more have come to their end, or all have; whether they have."""
        with self._ended:
            goal = min(self._counts["asked"] + count, self._count)
            self._ended.wait_for(
                lambda: self._counts["asked"] >= goal or self._is_stopped, LONGEST_WAIT
            )
            return self._counts["asked"] >= goal

    def stop(self) -> None:
        """Let no more be made."""
        with self._ended:
            self._stop()

    def tally(self) -> Tally:
        """What came of them; `elapsed`, `median` and `ninety-ninth` percentile in microseconds.

        Raises what stopped them: UnexpectedAnswer, or an OSError that is no outcome.
        """
        if self._fault:
            raise self._fault
        times = sorted(self._times) or [0]
        return {
            **self._counts,
            "elapsed": (self._ended_at - self._begun) // 1000,
            "median": times[len(times) // 2] // 1000,
            "ninety-ninth": times[len(times) * 99 // 100] // 1000,
        }

    def slots(self) -> Tally:
        """When they came to their end: `slot NUMBER OUTCOME`, of SLOTS that divide all the time.

        The last one was over `slot ago`, in microseconds.
        """
        elapsed = max(self._ended_at - self._begun, 1)
        counts: Tally = {"slot ago": (time.monotonic_ns() - self._ended_at) // 1000}
        for ended, outcome in self._ends:
            number = min((ended - self._begun) * SLOTS // elapsed, SLOTS - 1)
            name = f"slot {number} {outcome}"
            counts[name] = counts.get(name, 0) + 1
        return counts

    def _stop(self) -> None:
        self._left, self._is_stopped = 0, True
        self._ended.notify_all()

    def _next(self) -> int | None:
        """The port to come from, 0 for any; None where no more is to be made."""
        with self._ended:
            if time.monotonic() > self._end:
                self._stop()
            if not self._left:
                return None
            self._left -= 1
            port = self._port
            self._port += bool(port)
            return port


class Load:
    """Clients side by side that make requests until it is stopped, or all are made."""

    def __init__(self, address: tuple[str, int], count: int, clients: int, words: str) -> None:
        self._requests = Requests(address, count, words=words)
        pause = HTTP_PAUSE if words else 0.0
        self._threads = [
            threading.Thread(target=self._requests.make_all, args=(pause,)) for _ in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> bool:
        """Wait until so many more requests have come to their end, or all have; see `Requests`."""
        return self._requests.wait_for(count)

    def stop(self) -> Tally:
        """End it; what came of the requests, and when."""
        self._requests.stop()
        for thread in self._threads:
            thread.join()
        return {**self._requests.tally(), **self._requests.slots()}


def request(address: tuple[str, int], count: int, first_port: int, words: str) -> Tally:
    """Make so many requests, one after the other; what came of them."""
    # With words a client waits longer for its answer; a server that keeps it waiting is none.
    requests = Requests(address, count, first_port, words, LONGEST_WAIT if words else LAST_START)
    requests.make_all()
    return requests.tally()


def ask(address: tuple[str, int], port: int, words: bytes) -> tuple[str, str]:
    """Connect from a port (0: any) and read the answer: the outcome, and who answered.

    With `words` the client speaks first; to an HTTP request the body of the answer says who
    answered, to other words all of it.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    end = time.monotonic() + (HTTP_SECONDS if words else REQUEST_SECONDS)
    with socket.socket(family) as client:
        client.settimeout(end - time.monotonic())
        try:
            if port:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.bind(("", port))
            client.connect(address)
            if words:
                client.sendall(words)
            answer = b""
            # Of one that never ends, or comes in drops, so much and no more.
            while len(answer) < LONGEST_ANSWER and (data := client.recv(4096)):
                answer += data
                client.settimeout(max(end - time.monotonic(), SHORTEST_WAIT))
        except ConnectionRefusedError:
            return REFUSED, ""
        except (ConnectionResetError, BrokenPipeError):
            return RESET, ""
        except TimeoutError:
            return TIMED_OUT, ""
        who = read_body(answer) if words.startswith(HTTP) else answer
        shown = make_readable(who.decode(errors="replace")[:LONGEST_NAME]).strip()
        return (ANSWERED, shown) if shown else (RESET, "")


def make_readable(text: str) -> str:
    """A text without what a terminal would do instead of showing it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def read_body(answer: bytes) -> bytes:
    """The body of an HTTP answer, empty where the answer is not whole; UnexpectedAnswer.

    A status other than 200 says that the server is not what the lab has set up.
    """
    head, end_of_head, body = answer.partition(b"\r\n\r\n")
    if not end_of_head:
        return b""
    status, *fields = head.split(b"\r\n")
    if not status.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise UnexpectedAnswer(f"the server answered {status.decode(errors='replace')}")
    named = dict(field.lower().partition(b":")[::2] for field in fields)
    return body.strip() if len(body) >= int(named.get(b"content-length", b"1")) else b""


def ask_sleepers(address: tuple[str, int], count: int, pids: Sequence[int], words: str) -> Tally:
    """Make requests one by one, each when all threads of these processes sleep again.

    What wakes them then is this connection and nothing else. Counts as in `Requests`, and
    `woken PID`: how often each process went back to sleep (proc_pid_status(5)).
    """
    # How long it takes, the sleepers say.
    requests = Requests(address, count, words=words, seconds=math.inf)
    wait_for_sleep(pids)
    before = [count_sleeps(pid) for pid in pids]
    while requests.make_one():
        wait_for_sleep(pids)
    woken = {
        f"woken {pid}": count_sleeps(pid) - slept for pid, slept in zip(pids, before, strict=True)
    }
    return {**requests.tally(), **woken}


def wait_for_sleep(pids: Sequence[int]) -> None:
    """Wait until every thread of these processes sleeps; TimeoutError after SLEEP_SECONDS."""
    end = time.monotonic() + SLEEP_SECONDS
    while not all(map(sleeps, pids)):
        if time.monotonic() > end:
            raise TimeoutError("the processes do not sleep")
        time.sleep(SLEEP_INTERVAL)


def sleeps(pid: int) -> bool:
    """Whether all threads of a process are in state S of /proc/PID/task/TID/stat."""
    return all(stat.rpartition(") ")[2][0] == "S" for stat in read_tasks(pid, "stat"))


def count_sleeps(pid: int) -> int:
    """How often the threads of a process have gone to sleep: voluntary_ctxt_switches."""
    field = "\nvoluntary_ctxt_switches:\t"
    return sum(int(status.partition(field)[2].split()[0]) for status in read_tasks(pid, "status"))


def read_tasks(pid: int, name: str) -> Iterator[str]:
    """The file of this name below /proc/PID/task/TID, of each thread that has not ended by then."""
    tasks = f"/proc/{pid}/task"
    for task in os.listdir(tasks):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"{tasks}/{task}/{name}", errors="backslashreplace") as file:
                content = file.read()
            yield content


def count_switches() -> int:
    """How often the calling thread has gone to sleep."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
