"""What ends a command is said by its exit status, wherever in Python it strikes."""

import subprocess
import sys
from signal import SIGHUP, SIGINT, SIGTERM, Signals

import pytest

from tests.support import ROOT, TIMEOUT

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
