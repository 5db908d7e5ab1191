"""--predict on a terminal: what is asked, what is shown before the answer and after it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from labs.engine.catalogue import find_lab
from labs.engine.model import Measured, Refused, StepStarted
from labs.engine.rehearsal import rehearse_steps
from tests.endings import INTERRUPTED, PROMPT
from tests.support import (
    Terminal,
    copy_tree,
    look,
    new_token,
    open_terminal,
    run,
    wait_for_nothing,
)

pytestmark = pytest.mark.namespaces

ASKED = r"What will it come to\? $|(How many|What number,) [^?]+\? $"
ASKED_IN_CHINESE = r"会得到什么？ $|多少[^？]+？ $"
OF_AN_OUTCOME = r"✔|, observed|expected |  = "


def steps_of(name: str, language: str = "en") -> list[StepStarted]:
    return rehearse_steps(find_lab(name, f"labs.{name}.lab"), None, language)


def as_expected(step: StepStarted) -> str:
    """What a trainee types who knows it all."""
    match step.expected:
        case Refused(errno, call):
            return f"{errno} {call}"
        case Measured(_, low, high):
            return f"{low:g}" if low == high else f"{low:g}-{high:g}"
    return "ok"


def answer_all(
    terminal: Terminal,
    steps: list[StepStarted],
    answer: Callable[[StepStarted], str],
    prompt: str = ASKED,
) -> int:
    for step in steps:
        terminal.read_until(prompt)
        terminal.type(f"{answer(step)}\n")
    return terminal.wait()


def test_all_is_predicted_right(tmp_path: Path) -> None:
    record, report = tmp_path / "record.json", tmp_path / "report.xml"
    options = ("--predict", "--json", str(record), "--junit", str(report))
    token = new_token()
    before = look(token)
    with open_terminal("lab.euid", *options, token=token) as terminal:
        assert answer_all(terminal, steps_of("euid"), as_expected) == 0
    assert "predictions: 18 of 18 right\n" in terminal.output
    assert "look again" not in terminal.output
    assert terminal.output.count("you said: ") == 18
    assert wait_for_nothing(before, token) == {}
    (found,) = json.loads(record.read_text())["runs"]
    assert [entry["number"] for entry in found["predictions"]] == [*range(1, 19)]
    said = [entry["prediction"]["kind"] for entry in found["predictions"]]
    assert said == [step["expected"]["kind"] for step in found["steps"]]
    (suite,) = ET.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("18", "0")


def test_nothing_is_given_away_before_the_answer() -> None:
    with open_terminal("lab.euid", "--predict", token=new_token()) as terminal:
        for step in steps_of("euid")[:4]:
            seen = len(terminal.output)
            terminal.read_until(ASKED)
            _, _, shown = terminal.output[seen:].rpartition(f"{step.number:>2}  {step.title}\n")
            assert "What will it come to?" in shown
            assert not re.search(OF_AN_OUTCOME, shown)
            assert step.why[:20] not in shown
            for choice in ("1 OK", "2 EADDRINUSE from bind()", "4 EPERM from fchown()"):
                assert choice in shown  # the same for each step
            terminal.type("OK\n")
        terminal.type("\x03")
        terminal.wait()


def test_wrong_answers_change_no_status_and_say_where_to_read_on() -> None:
    with open_terminal("lab.euid", "--predict", token=new_token()) as terminal:
        status = answer_all(
            terminal,
            steps_of("euid"),
            lambda step: "1000" if isinstance(step.expected, Measured) else "EPERM",
        )
    assert status == 0
    assert "predictions: 1 of 18 right, 17 otherwise\n" in terminal.output
    end = terminal.output.partition("predictions: ")[2]
    assert "  look at lab netns (labs/netns/brief.en.md):\n    step 14: On another host" in end
    assert "  look again at this lab (labs/euid/brief.en.md):\n    step 1: Alice" in end
    assert "step 11" not in end  # EPERM from fchown()


def test_a_wrong_entry_is_asked_again_and_enter_is_not_known() -> None:
    with open_terminal("lab.fork", "--predict", token=new_token()) as terminal:
        terminal.read_until(ASKED)
        terminal.type("9\n")
        terminal.read_until("Please say a number from 1 to 4, or a name:")
        terminal.read_until(ASKED)
        terminal.type("EINVAL\n")
        terminal.read_until("Which of these: EINVAL from accept\\(\\), EINVAL from bind\\(\\)\\?")
        terminal.read_until(ASKED)
        terminal.type("\n")
        terminal.read_until("you did not say\n")
        terminal.read_until("How many inodes\\? $")
        terminal.type("some\n")
        terminal.read_until("Please say a number such as 8")
        terminal.read_until("How many inodes\\? $")
        terminal.type("0-9\n")
        terminal.read_until("you said: 0 to 9, too wide to count\n")
        terminal.read_until(ASKED)
        terminal.type("\x04")
        terminal.read_until("No more questions")
        assert terminal.wait() == 0
    assert len(re.findall(ASKED.replace("$", ""), terminal.output)) == 6
    end = terminal.output.partition("predictions: ")[2]
    assert end.startswith("0 of 2 right, 1 too wide to count, 1 not said\n")


def test_what_cannot_wait_is_asked_before_it_begins() -> None:
    steps = steps_of("timewait")
    with open_terminal("lab.timewait", "--predict", token=new_token()) as terminal:
        terminal.read_until("These 4 steps follow each other")
        for step in steps[:4]:
            terminal.read_until(re.escape(step.title))
            terminal.read_until(ASKED)
            assert not re.search(OF_AN_OUTCOME, terminal.output)
            terminal.type(f"{as_expected(step)}\n")
        terminal.read_until("Now they run.")
        for step in steps[:4]:
            terminal.read_until(re.escape(step.title))
            terminal.read_until("you said: .*, right\n")
        assert answer_all(terminal, steps[4:], as_expected) == 0
    assert "predictions: 18 of 18 right\n" in terminal.output


def test_it_speaks_chinese() -> None:
    steps = steps_of("fork", "zh")
    with open_terminal("lab.fork", "--predict", "--lang", "zh", token=new_token()) as terminal:
        status = answer_all(terminal, steps, as_expected, ASKED_IN_CHINESE)
    assert status == 0
    assert "预测：13 个中对了 13 个" in terminal.output
    assert "bind() 返回 EADDRINUSE，对了" in terminal.output
    for word in ("you ", "What will", "How many", "Enter alone", "from "):
        assert word not in terminal.output


WRONG = """
from labs.engine.script import EADDRINUSE, Run, lab

@lab("wrong", title="It expects what no kernel does")
def wrong(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens", expect=EADDRINUSE.by("bind"), why="?"):
        alice.listen(run.port(8080))
"""


def test_a_step_that_differs_keeps_its_status_and_the_trainee_may_be_right(tmp_path: Path) -> None:
    folder = copy_tree(tmp_path) / "labs" / "wrong"
    folder.mkdir()
    (folder / "lab.py").write_text(WRONG)
    with open_terminal("lab.wrong", "--predict", token=new_token(), folder=tmp_path) as terminal:
        terminal.read_until(ASKED)
        terminal.type("OK\n")
        assert terminal.wait() == 3
    assert "expected EADDRINUSE from bind(), observed OK\n      you said: OK, right" in (
        terminal.output
    )


def test_control_c_at_a_question_interrupts() -> None:
    token = new_token()
    before = look(token)
    with open_terminal("lab.euid", "--predict", token=token) as terminal:
        terminal.read_until(ASKED)
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert "Traceback" not in terminal.output
    assert ", observed" not in terminal.output
    assert wait_for_nothing(before, token) == {}


def test_it_can_be_paused_too() -> None:
    with open_terminal("lab.euid", "--predict", "--pause", token=new_token()) as terminal:
        for _ in range(2):
            terminal.read_until(PROMPT)
            terminal.type("\n")
            terminal.read_until(ASKED)
            terminal.type("1\n")
        terminal.read_until(PROMPT)
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert terminal.output.count("you said: OK, right") == 2


def test_a_pause_does_not_stop_where_the_kernel_would_not_wait() -> None:
    with open_terminal("lab.timewait", "--pause", token=new_token()) as terminal:
        terminal.read_until(PROMPT)
        terminal.type("\n")
        for _ in range(3):
            terminal.read_until("no stop here: this step has to follow at once\n")
        terminal.read_until(PROMPT)
        terminal.type("\x03")
        assert terminal.wait() == INTERRUPTED
    assert terminal.output.count(", observed ") == 4


def test_it_needs_a_terminal() -> None:
    done = run("lab.euid", "--predict")
    assert (done.status, done.output, done.errors.count("\n")) == (2, "", 1)
    assert "--predict needs a terminal" in done.errors


def test_a_plan_has_nothing_to_predict_or_report(tmp_path: Path) -> None:
    for option in (["--predict"], ["--junit", str(tmp_path / "x")]):
        done = run("lab.euid", "--dry", *option)
        assert done.status == 2
        assert "--dry" in done.errors


def test_a_report_of_a_run_that_nobody_predicts() -> None:
    done = run("lab.unique", "--junit", "-")
    assert done.status == 0
    (suite,) = ET.fromstring(done.output.encode())
    assert (suite.get("name"), suite.get("errors")) == ("unique", "0")
    assert "as expected" in done.errors
