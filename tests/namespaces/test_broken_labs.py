"""A lab that is broken is 70 with the place where; one whose kernel differs is 3."""

import io
import json
import shutil
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

# Here, not in the keeper: a short deadline is for the agents, not for an import.
import labs.engine.backends.namespaces.network  # noqa: F401
from labs.engine.backends.namespaces.backend import open_namespaces
from labs.engine.errors import ExitStatus
from labs.engine.layout import Layout
from labs.engine.record import Record
from labs.engine.runner import run_lab
from labs.engine.script import EACCES, EADDRINUSE, OK, Lab, Run, between, call, exactly, lab
from labs.engine.views.terminal import TerminalView
from tests.support import ROOT, look, new_token, run, wait_for_nothing

pytestmark = pytest.mark.namespaces

DEADLINE = 1.0
WHY = "It is broken on purpose."


class Result:
    """What came of a run: its status, its record, what the terminal showed."""

    def __init__(self, broken: Lab) -> None:
        record, output = Record(), io.StringIO()
        with open_namespaces(deadline=DEADLINE) as backend:
            self.status = run_lab(broken, backend, Layout(None), [record, TerminalView(output)])
        self.record: dict[str, Any] = json.loads(json.dumps(record.to_json()))
        self.output = output.getvalue()
        self.verdicts = [step["verdict"] for step in self.record["steps"]]

    def check_broken(self, *words: str) -> None:
        """70, and one reason that has these words, in the record and on the terminal."""
        assert self.status is ExitStatus.FAILED
        assert self.record["status"] == 70
        for word in words:
            assert word in self.record["error"]
        assert self.record["error"] in self.output
        assert "Traceback" not in self.output


def line_of(broken: Lab, text: str) -> str:
    """The file and the number of the line of a lab that has this text."""
    code = broken.script.__code__
    lines = Path(code.co_filename).read_text().splitlines()
    first = code.co_firstlineno
    number = next(number for number in range(first, len(lines)) if text in lines[number - 1])
    return f"{code.co_filename}:{number}"


@lab("raising", title="Its script raises after the first step")
def raising(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens", expect=OK, why=WHY):
        alice.listen(8080)
    raise_deep()


def raise_deep() -> None:
    raise ZeroDivisionError("on purpose")


def test_a_script_that_raises() -> None:
    result = Result(raising)
    result.check_broken("ZeroDivisionError", "on purpose", __file__)
    places = (
        line_of(raising, "raise_deep()"),
        f"{__file__}:{raise_deep.__code__.co_firstlineno + 1}",
    )
    assert any(f"{place}:" in result.record["error"] for place in places)
    assert result.verdicts == ["passed"]


@lab("raising_inside", title="Its script raises inside a step")
def raising_inside(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens", expect=OK, why=WHY):
        alice.listen(8080)
        [].pop()
    with run.step("Never comes", expect=OK, why=WHY):
        alice.listen(8081)


def test_a_step_that_raises() -> None:
    result = Result(raising_inside)
    result.check_broken("IndexError", line_of(raising_inside, "[].pop()") + ":")
    assert result.verdicts == ["failed"]
    assert result.record["steps"][0]["outcome"]["kind"] == "broken"


@lab("impossible", title="It asks for a call that cannot be made")
def impossible(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice listens on no port at all", expect=EADDRINUSE, why=WHY):
        alice.listen(65_536)


def test_a_call_that_cannot_be_made_is_no_outcome() -> None:
    result = Result(impossible)
    result.check_broken("alice", "0-65535", line_of(impossible, "alice.listen"))
    assert result.verdicts == ["failed"]


@lab("dying", title="Its agent ends before it is asked")
def dying(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice ends by herself", expect=OK, why=WHY):
        alice.perform(call("exit", 1))
    with run.step("Alice is asked all the same", expect=OK, why=WHY):
        alice.listen(8080)
    with run.step("Never comes", expect=OK, why=WHY):
        alice.listen(8081)


def test_an_agent_that_died() -> None:
    result = Result(dying)
    result.check_broken("alice", "has died")
    assert result.verdicts == ["passed", "failed"]
    outcome = result.record["steps"][1]["outcome"]
    assert (outcome["kind"], outcome["reason"]) == ("broken", result.record["error"])


@lab("killed", title="Its agent is killed before it is asked")
def killed(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice is killed", expect=OK, why=WHY):
        alice.listen(8080)
        alice.kill(SIGKILL)
    with run.step("Alice is asked all the same", expect=OK, why=WHY):
        alice.listen(8080)


def test_an_agent_that_was_killed() -> None:
    result = Result(killed)
    result.check_broken("alice")
    assert any(word in result.record["error"] for word in ("died", "ended", "gone", "killed"))
    assert result.verdicts == ["passed", "failed"]


@lab("replaced", title="Its agent is asked after it has become another program")
def replaced(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice becomes sleep(1)", expect=OK, why=WHY):
        alice.exec("/bin/sleep", "60")
    with run.step("Alice is asked all the same", expect=OK, why=WHY):
        alice.listen(8080)


def test_an_agent_that_became_another_program() -> None:
    result = Result(replaced)
    result.check_broken("alice")
    assert "KeyError" not in result.record["error"]
    assert result.verdicts == ["passed", "failed"]


@lab("hanging", title="Its agent waits for a connection that does not come")
def hanging(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice waits for nobody", expect=OK, why=WHY):
        alice.listen(8080).accept()
    with run.step("Never comes", expect=OK, why=WHY):
        alice.listen(8081)


def test_an_agent_that_hangs() -> None:
    result = Result(hanging)
    result.check_broken("alice", "hangs", f"{DEADLINE:g} second")
    assert result.verdicts == ["failed"]


@lab("differing", title="Three steps of four differ")
def differing(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("As expected", expect=OK, why=WHY):
        alice.listen(8080)
    with run.step("Another errno", expect=EACCES, why=WHY):
        alice.listen(8080)
    with run.step("The errno, but from another call", expect=EADDRINUSE.by("listen"), why=WHY):
        alice.listen(8080)
    with run.step("Too much", expect=between(1, 2, "things"), why=WHY) as step:
        alice.listen(8081)
        step.measured(3)


def test_steps_that_differ() -> None:
    result = Result(differing)
    assert result.status is ExitStatus.DIFFERS
    assert (result.record["status"], result.record["error"]) == (3, "")
    assert result.verdicts == ["passed", "differs", "differs", "differs"]
    assert "1 as expected, 3 otherwise" in result.output
    assert "step 2 otherwise" in result.output


@lab("differing_first", title="A step differs, then the script raises")
def differing_first(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Another outcome", expect=EADDRINUSE, why=WHY):
        alice.listen(8080)
    raise ZeroDivisionError


def test_a_broken_lab_is_broken_whatever_its_steps_said() -> None:
    result = Result(differing_first)
    result.check_broken("ZeroDivisionError", line_of(differing_first, "raise Zero"))
    assert result.verdicts == ["differs"]


@lab("idle", title="A step makes no call")
def idle(run: Run) -> None:
    with run.step("Nothing is done", expect=OK, why=WHY):
        run.port(8080)


@lab("unmeasured", title="A step does not measure what it expects")
def unmeasured(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Nothing is measured", expect=exactly(1, "listener"), why=WHY):
        alice.listen(8080)


@lab("overmeasured", title="A step measures what it does not expect")
def overmeasured(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Something is measured", expect=OK, why=WHY) as step:
        alice.listen(8080)
        step.measured(1)


@lab("nested", title="A step inside a step")
def nested(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Outside", expect=OK, why=WHY):
        alice.listen(8080)
        with run.step("Inside", expect=OK, why=WHY):
            alice.listen(8081)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (idle, "has made no call"),
        (unmeasured, "has not measured"),
        (overmeasured, "expects no quantity"),
        (nested, "step inside a step"),
    ],
)
def test_a_step_that_is_none(broken: Lab, words: str) -> None:
    result = Result(broken)
    result.check_broken(words, f"{__file__}:")
    assert result.verdicts == ["failed"]


@lab("outside", title="A call outside of a step")
def outside(run: Run) -> None:
    run.host("server").process("alice", user="alice").listen(8080)


@lab("namesakes", title="Two processes of one name")
def namesakes(run: Run) -> None:
    server = run.host("server")
    server.process("alice", user="alice")
    server.process("alice", user="bob")


@lab("forked_namesakes", title="A child of its parent's name")
def forked_namesakes(run: Run) -> None:
    alice = run.host("server").process("alice", user="alice")
    with run.step("Alice forks herself", expect=OK, why=WHY):
        alice.fork("alice")


@lab("same_hosts", title="Two hosts of one name")
def same_hosts(run: Run) -> None:
    run.host("server")
    run.host("server")


@pytest.mark.parametrize(
    ("broken", "words", "place"),
    [
        (outside, "outside of a step", ".listen(8080)"),
        (namesakes, "two processes named alice", 'user="bob"'),
        (forked_namesakes, "two processes named alice", "alice.fork"),
        (same_hosts, "two hosts named server", 'run.host("server")'),
    ],
)
def test_a_script_that_breaks_a_rule(broken: Lab, words: str, place: str) -> None:
    result = Result(broken)
    first = line_of(broken, place)
    file, _, number = first.rpartition(":")
    # The second of two equal lines is the one at fault.
    number = str(int(number) + 1) if broken is same_hosts else number
    result.check_broken(words, f"{file}:{number}:")


# --- by the command -----------------------------------------------------------------------

RAISING = """
from labs.engine.script import Run, lab

@lab("broken", title="It raises")
def broken(run: Run) -> None:
    run.host("server")
    raise ZeroDivisionError("on purpose")
"""
BROKEN_MODULES = {
    "raises": (RAISING, "lab.py:7: ZeroDivisionError: on purpose"),
    "is no Python": ("def broken(:\n", "SyntaxError"),
    "has no lab": ("", "must have one lab, named broken"),
    "has another name": (RAISING.replace('"broken"', '"other"'), "must have one lab, named broken"),
}


@pytest.mark.parametrize("kind", BROKEN_MODULES)
def test_a_broken_lab_by_the_command(kind: str, tmp_path: Path) -> None:
    text, message = BROKEN_MODULES[kind]
    shutil.copy(ROOT / "tasks.py", tmp_path)
    shutil.copytree(ROOT / "labs", tmp_path / "labs")
    (tmp_path / "labs" / "broken").mkdir()
    (tmp_path / "labs" / "broken" / "__init__.py").touch()
    (tmp_path / "labs" / "broken" / "lab.py").write_text(text)
    token = new_token()
    before = look(token, [tmp_path])
    done = run("lab.broken", folder=tmp_path, BINDLAB_TEST_TOKEN=token)
    assert done.status == 70, done
    assert message in done.text
    assert "Traceback" not in done.text
    assert wait_for_nothing(before, token, [tmp_path]) == {}
    assert run("lab.euid", folder=tmp_path).status == 0
