"""What ends a command is said by its exit status, wherever in Python it strikes."""

import subprocess
import sys
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from tests.support import ROOT, TIMEOUT, run

# No error may leave __del__, or the callback with which each import frees its lock.
STRUCK_IN_A_CALLBACK = """
import os, sys, time
from labs.engine.command import exit_on_signals

class Callback:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0)

exit_on_signals()
Callback()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_signal_in_a_callback_interrupts(number: Signals) -> None:
    arguments = [sys.executable, "-c", STRUCK_IN_A_CALLBACK, str(int(number))]
    ended = subprocess.run(
        arguments, cwd=ROOT, timeout=TIMEOUT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (130, "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    "words",
    [
        ("port.why",),
        ("port.why", "--udp"),
        ("port.why", "80", "--netns"),
        ("lab.new",),
        ("exercise.start",),
        ("lab.euid",),
        ("lab.euid", "lab.passing"),
    ],
)
def test_a_command_is_asked_for_its_help(words: tuple[str, ...], flag: str) -> None:
    """Though its name may want a value behind it, which Invoke would take the flag for."""
    done = run(*words, flag)
    name = [word for word in words if "." in word][-1]
    assert (done.status, done.errors) == (0, "")
    assert done.output == run("--help", name).output
    assert done.output.startswith(f"Usage: inv[oke] [--core-opts] {name} ")


def test_what_is_no_command_has_no_help() -> None:
    done = run("nonsense", "--help")
    assert (done.status, done.output) == (2, "")
    assert "nonsense" in done.errors
    assert run("--help").output.startswith("Usage: inv[oke] [--core-opts] task1")


def test_what_comes_behind_two_dashes_asks_for_no_help() -> None:
    assert run("port.why", "0", "--", "--help").status == 2


def test_help_that_cannot_be_written_is_no_traceback() -> None:
    with open("/dev/full", "w") as full:
        arguments = [sys.executable, "-m", "invoke", "port.why", "--help"]
        ended = subprocess.run(
            arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode != 0
    assert ended.stderr.startswith("bindlab: ")
    assert "Traceback" not in ended.stderr
