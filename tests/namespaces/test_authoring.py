"""lab.new and lab.check as an author meets them, in a copy of the clone."""

import shutil
import subprocess
import sys
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

import pytest

from tests.authors import finish
from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    copy_tree,
    denied,
    deny_user_namespaces,
    environment,
    find_children,
    list_files,
    look,
    look_at_life,
    new_token,
    open_terminal,
    run,
    wait_for_nothing,
    wait_until,
)

pytestmark = pytest.mark.namespaces

SHORT = "a"  # the shortest name, and the longest: nothing in a skeleton may depend on that
LONGEST = "l" * 32


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which there are two new labs as lab.new leaves them."""
    folder = copy_tree(tmp_path_factory.mktemp("clone"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    shutil.copytree(ROOT / "tests", folder / "tests")
    shutil.copytree(ROOT / "docs", folder / "docs")
    for arguments in ((SHORT,), (LONGEST, "--challenge", LONGEST.replace("l", "c"))):
        assert run("lab.new", *arguments, folder=folder).status == 0
    return folder


def call(folder: Path, *command: str) -> None:
    """Run a module of this interpreter in a folder; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- a new lab ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SHORT, LONGEST])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_new_lab_runs_at_once(name: str, language: str, clone: Path) -> None:
    done = run(f"lab.{name}", "--lang", language, folder=clone)
    assert done.status == 0, done.text
    assert run(f"lab.{name}", "--dry", "--lang", language, folder=clone).status == 0


def test_a_new_lab_is_listed(clone: Path) -> None:
    assert f"lab.{SHORT} " in run("--list", folder=clone).output


def test_a_new_lab_says_what_is_to_do_and_its_proofs_hold(clone: Path) -> None:
    done = run("lab.check", "--labs", f"{SHORT},{LONGEST}", folder=clone)
    assert done.status == 70
    shown = [line.strip() for line in done.output.splitlines() if line.startswith("    ")]
    assert len(shown) == 28
    assert all(": still says TODO, in line" in line for line in shown)
    assert "2 labs, 2 challenges, 18 proofs" in done.output


def test_a_new_lab_that_is_written_has_nothing_wrong(clone: Path, tmp_path: Path) -> None:
    folder = copy_tree(tmp_path, clone)
    finish(folder / "labs" / SHORT)
    done = run("lab.check", "--labs", SHORT, folder=folder)
    assert done.status == 0, done.text
    assert "nothing wrong" in done.output
    assert "✔" in done.output


def test_a_new_lab_has_style_and_types(clone: Path) -> None:
    call(clone, "ruff", "check")
    call(clone, "ruff", "format", "--check")
    new = [f"labs/{name}" for name in (SHORT, LONGEST)]
    tests = [f"tests/namespaces/test_{name}.py" for name in (SHORT, LONGEST)]
    call(clone, "mypy", *new, *tests)


@pytest.mark.parametrize("name", [SHORT, LONGEST])
def test_the_test_of_a_new_lab_passes(name: str, clone: Path) -> None:
    call(clone, "pytest", "-q", "-p", "no:cacheprovider", f"tests/namespaces/test_{name}.py")


def test_a_trainee_can_begin_a_new_challenge(clone: Path, tmp_path: Path) -> None:
    def exercise(verb: str) -> int:
        home = str(tmp_path)
        return run(
            f"exercise.{verb}", f"use_{SHORT}", folder=clone, HOME=home, XDG_STATE_HOME=home
        ).status

    assert exercise("start") == 0
    program = tmp_path / "bindlab" / f"use_{SHORT}" / "program.py"
    source = clone / "labs" / SHORT / "challenge" / f"use_{SHORT}"
    for name, status in (("wrong/local.py", 4), ("solution.py", 0)):
        program.write_bytes((source / name).read_bytes())
        assert exercise("check") == status


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lab.new",), "name"),
        (("lab.new", "euid"), "invoke lab.new euid --challenge NAME"),
        (("lab.new", "euid", "--challenge", "drop"), "has a challenge drop already"),
        (("lab.new", "check"), "is a command"),
        (("lab.new", "Two Words"), "a name is up to 32 of"),
        (("lab.check", "--labs", "nowhere"), "There is no lab 'nowhere'"),
        (("lab.check", "--jobs", "0"), "--jobs takes a number from 1"),
        (("lab.check", "--jobs", "many"), "--jobs takes a whole number"),
        (("lab.check", "--none"), "--none"),
    ],
)
def test_what_cannot_be_is_a_usage_error(
    arguments: tuple[str, ...], said: str, clone: Path
) -> None:
    before = sorted(list_files(clone))
    done = run(*arguments, folder=clone)
    assert done.status == 2
    assert said in done.errors
    assert sorted(list_files(clone)) == before


@pytest.mark.root_only
def test_a_clone_that_is_read_only(clone: Path) -> None:
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(clone))
    for arguments in (("harbour",), ("euid", "--challenge", "more")):
        done = run("lab.new", *arguments, prefix=prefix)
        assert done.status == 2, done.text
        assert "Read-only file system" in done.errors
        assert "Traceback" not in done.errors


@pytest.mark.ordinary_only
def test_a_clone_that_is_somebody_elses(tmp_path: Path) -> None:
    folder = copy_tree(tmp_path)
    (folder / "labs").chmod(0o555)
    try:
        done = run("lab.new", "harbour", folder=folder)
    finally:
        (folder / "labs").chmod(0o755)
    assert done.status == 2
    assert "Permission denied" in done.errors


# --- what is wrong, and what cannot be seen -----------------------------------------------


@pytest.fixture
def broken(clone: Path, tmp_path: Path) -> Path:
    """A copy in which the solution of a challenge is none, and a wrong program gets no hint."""
    folder = copy_tree(tmp_path, clone)
    finish(folder / "labs" / SHORT)
    challenge = folder / "labs" / SHORT / "challenge" / f"use_{SHORT}"
    alone = (challenge / "wrong" / "alone.py").read_text()
    (challenge / "solution.py").write_text(alone.replace("Done", "Good"))
    (challenge / "wrong" / "local.py").write_text(alone.replace("Done", "Else"))
    return folder


def test_what_proofs_show_is_said_in_a_line_each(broken: Path) -> None:
    done = run("lab.check", "--labs", SHORT, folder=broken)
    assert done.status == 70
    place = f"labs/{SHORT}/challenge/use_{SHORT}"
    shown = [line.strip() for line in done.output.splitlines() if line.startswith("    ")]
    step = "'She starts it once more, beside the first'"
    assert shown == [
        f"{place}/solution.py: its check ended with status 4, not 0, at the step {step}",
        f"{place}/wrong/local.py: it got the advice alone, not local",
    ]


def test_a_reason_that_tells_of_another_rule_is_found(clone: Path, tmp_path: Path) -> None:
    folder = copy_tree(tmp_path, clone)
    finish(folder / "labs" / SHORT)
    script = folder / "labs" / SHORT / "lab.py"
    text = script.read_text()
    assert 'rule="free"' in text
    script.write_text(text.replace('rule="free"', 'rule="other-address"'))
    done = run("lab.check", "--labs", SHORT, folder=folder)
    assert done.status == 70
    (shown,) = [line.strip() for line in done.output.splitlines() if line.startswith("    ")]
    assert shown == (
        f"labs/{SHORT}/lab.py: step 1 (Alice listens on 8080) says rule='other-address', "
        "and is decided by 'free'"
    )


def test_a_quick_check_runs_no_program(broken: Path) -> None:
    done = run("lab.check", "--labs", SHORT, "--quick", folder=broken)
    assert done.status == 0, done.text
    assert "without proofs" in done.output


def test_where_nothing_can_be_proved_nothing_passes(broken: Path) -> None:
    prefix = denied(deny_user_namespaces)
    done = run("lab.check", "--labs", SHORT, folder=broken, prefix=prefix)
    assert done.status == 125, done.text
    assert "✔" not in done.output
    (broken / "labs" / SHORT / "brief.zh.md").unlink()
    done = run("lab.check", "--labs", SHORT, folder=broken, prefix=prefix)
    assert done.status == 70
    assert "No proof was carried out." in done.output
    assert "brief.zh.md: missing" in done.output


# --- interrupted --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGKILL])
def test_a_check_that_is_ended_leaves_nothing(number: Signals, clone: Path) -> None:
    token = new_token()
    before = look(token)
    command = [*INVOKE, "lab.check", "--labs", "euid", "--jobs", "3"]
    with subprocess.Popen(
        command,
        cwd=clone,
        env=environment(token),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        wait_until(lambda: len(find_children(process.pid)) == 3, "three proofs at work")
        wait_until(lambda: bool(look(token).namespaces), "their namespaces")
        life = look_at_life(token)
        process.send_signal(number)
        text = process.stdout.read()
        status = process.wait(TIMEOUT)
    assert status == (-SIGKILL if number is SIGKILL else 130), text
    assert "Traceback" not in text
    assert wait_for_nothing(before, token, life=life) == {}


def test_control_c_ends_a_check(clone: Path) -> None:
    token = new_token()
    before = look(token)
    arguments = ("lab.check", "--labs", "euid")
    with open_terminal(*arguments, token=token, folder=clone) as terminal:
        terminal.read_until("proofs to go")
        life = look_at_life(token)
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.output
    assert wait_for_nothing(before, token, life=life) == {}
