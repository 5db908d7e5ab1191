"""`invoke learn` on a terminal: that is given back as it was found, and nothing is left."""

import os
import re
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.endings import INTERRUPTED
from tests.support import (
    ROOT,
    Terminal,
    copy_tree,
    ended,
    environment,
    find_children,
    look,
    new_token,
    run,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

MODE = re.compile(r"\x1b\[\?(\d+)([hl])")
SHOWN_FROM_THE_START = ("25", "7")  # the cursor, and the wrap at a line's end
STARTED = "labs run"
ASKED = "What will it come to"


class Course(Terminal):
    """The course on a terminal of its own, and what the terminal was like before."""

    def __init__(self, folder: Path, tree: Path, **changes: str) -> None:
        self.token = new_token()
        self.before = look(self.token)
        state = {"XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}
        variables = environment(self.token, **{"TERM": "xterm-256color", **state, **changes})
        variables.pop("COLUMNS", None)
        variables.pop("LINES", None)
        super().__init__(("learn",), tree, variables)
        self.settings = termios.tcgetattr(self._master)

    @property
    def is_given_back(self) -> bool:
        """Whether settings and modes are those of before."""
        modes = dict(MODE.findall(self.output))
        usual = {mode: "h" if mode in SHOWN_FROM_THE_START else "l" for mode in modes}
        keyboards = len(re.findall(r"\x1b\[>\d+u", self.output)) - self.output.count("\x1b[<u")
        is_usual = modes == usual and not keyboards
        return is_usual and termios.tcgetattr(self._master) == self.settings

    @property
    def last_words(self) -> str:
        """What is left on the terminal's own screen."""
        return self.output.rpartition("\x1b[?1049l")[2]

    def forget(self) -> None:
        """Let what has come so far be no answer to what is waited for next."""
        self._seen = len(self.output)

    def run_lab(self) -> None:
        """Open the first lab, run it, and wait for its question."""
        self.read_until(STARTED)
        self.type("\r")
        self.read_until("Press r")
        self.type("r")
        self.read_until(ASKED)

    def find_child(self) -> int:
        """The process that runs the lab."""
        (child,) = find_children(self.process.pid)
        return child


@contextmanager
def open_course(folder: Path, tree: Path = ROOT, **changes: str) -> Iterator[Course]:
    course = Course(folder, tree, **changes)
    with ended(course.process):
        try:
            yield course
        finally:
            course.close()


def press(keys: str) -> Callable[[Course], None]:
    return lambda course: course.type(keys)


def send(number: signal.Signals) -> Callable[[Course], None]:
    return lambda course: os.kill(course.process.pid, number)


ENDS = {
    "q at the list": (press("\x1bq"), 0),
    "control-c": (press("\x03"), INTERRUPTED),
    "SIGINT": (send(signal.SIGINT), INTERRUPTED),
    "SIGTERM": (send(signal.SIGTERM), INTERRUPTED),
    "SIGHUP": (send(signal.SIGHUP), INTERRUPTED),
}


@pytest.mark.parametrize("how", ENDS)
def test_it_is_left_while_a_lab_runs(how: str, tmp_path: Path) -> None:
    end, status = ENDS[how]
    with open_course(tmp_path) as course:
        course.run_lab()
        assert not course.is_given_back
        if how == "q at the list":
            course.type("\x1b")
            course.read_until(STARTED)
            course.type("q")
        else:
            end(course)
        assert course.wait() == status
        assert course.is_given_back, repr(course.output[-300:])
        assert course.last_words.strip() == "\x1b[?25h\x1b[?1004l"
    assert wait_for_nothing(course.before, course.token) == {}


def test_nothing_is_left_of_a_course_that_is_killed(tmp_path: Path) -> None:
    with open_course(tmp_path) as course:
        course.run_lab()
        course.process.kill()
        assert course.process.wait() == -signal.SIGKILL
    assert wait_for_nothing(course.before, course.token) == {}


def test_nothing_is_left_where_the_window_is_closed(tmp_path: Path) -> None:
    with open_course(tmp_path) as course:
        course.run_lab()
        course.close()
        assert course.process.wait(10) == INTERRUPTED
    assert wait_for_nothing(course.before, course.token) == {}


def test_a_lab_that_dies_is_a_word_in_the_course(tmp_path: Path) -> None:
    with open_course(tmp_path) as course:
        course.run_lab()
        os.kill(course.find_child(), signal.SIGKILL)
        course.read_until("process has ended by SIGKILL")
        course.type("r")
        course.read_until(ASKED)
        course.type("\x03")
        assert course.wait() == INTERRUPTED
        assert course.is_given_back
    assert wait_for_nothing(course.before, course.token) == {}


def test_a_fault_of_the_course_is_told_on_a_terminal_in_order(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path)
    pages = tree / "labs" / "engine" / "learn" / "pages.py"
    pages.write_text(pages.read_text() + "\nOF_THE_LIST = None\n")
    with open_course(tmp_path, tree=tree) as course:
        course.read_until(STARTED)
        course.type("?")
        assert course.wait() == 70
        assert course.is_given_back
        assert "bindlab: TypeError" in course.last_words
        assert "Traceback" not in course.output.replace(course.last_words, "")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_is_suspended_and_resumed(tmp_path: Path) -> None:
    with open_course(tmp_path) as course:
        course.read_until(STARTED)
        course.type("\x1a")
        wait_until(lambda: state_of(course.process.pid) == "T", "it is stopped")
        wait_until(lambda: course.read(0.01) and course.is_given_back, "the shell's terminal")
        course.forget()
        os.kill(course.process.pid, signal.SIGCONT)
        course.read_until(STARTED)
        assert not course.is_given_back
        course.type("q")
        assert course.wait() == 0
        assert course.is_given_back


EDITOR = """#!/bin/sh
stty -a >"$0.terminal"
echo '# edited' >>"$1"
"""


def test_an_editor_has_the_terminal_as_it_was(tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text(EDITOR)
    editor.chmod(0o755)
    with open_course(tmp_path, EDITOR=str(editor), VISUAL="") as course:
        course.read_until(STARTED)
        course.type("\x1b[B\r")
        course.read_until("Edit your program")
        course.type("e")
        course.read_until(re.escape("\x1b[?1049h"))
        course.read_until("Edit your program")
        course.type("\x03")
        assert course.wait() == INTERRUPTED
        assert course.is_given_back
    program = tmp_path / "bindlab" / "corner" / "program.py"
    assert program.read_text().endswith("# edited\n")
    assert " icanon " in (tmp_path / "editor.terminal").read_text()


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_prints_lines_alone(tmp_path: Path, name: str) -> None:
    with open_course(tmp_path, TERM=name) as course:
        assert course.wait() == 2
        assert "invoke lab.unique --predict" in course.output
        assert "\x1b" not in course.output


def test_it_needs_a_terminal() -> None:
    done = run("learn")
    assert (done.status, done.output) == (2, "")
    assert "needs a terminal" in done.errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--lab", "nonsense"), "There is no lab nonsense."),
        (("--lang", "xx"), "There is no language xx"),
        (("--port", "8080"), "--port goes with --web."),
        (("--web", "--port", "0"), "--port takes a number from 1 to 65535"),
    ],
)
def test_what_cannot_be_asked_for(options: tuple[str, ...], words: str) -> None:
    done = run("learn", *options)
    assert (done.status, done.output) == (2, "")
    assert words in done.errors


COLOUR = re.compile(r"\x1b\[[\d;]*\b([34][0-7]|[34]8)\b[\d;]*m")


@pytest.mark.parametrize("changes", [{"NO_COLOR": "1"}, {"TERM": "vt100", "NO_COLOR": ""}])
def test_without_colour(tmp_path: Path, changes: dict[str, str]) -> None:
    with open_course(tmp_path, ROOT, **changes) as course:
        course.run_lab()
        course.type("\x03")
        assert course.wait() == INTERRUPTED
    assert not COLOUR.search(course.output)
    assert re.search(r"\x1b\[1;4;39;49m1  OK", course.output)  # what is marked
