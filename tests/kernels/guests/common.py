"""What guests of the tests do first: they are as fit as the real one, and do something else."""

import os

from labs.engine.kernels import guest
from labs.engine.system import libc


def be_ready() -> guest.Channel:
    """Prepare the guest and say the first word."""
    guest.cover_root(os.environ[guest.MODULES_VARIABLE])
    guest.mount_system()
    channel = guest.Channel(guest.open_terminal())
    channel.send({"ready": os.uname().release})
    return channel


def power_off() -> None:
    """End as the real guest does."""
    libc.reboot(guest.POWER_OFF)
