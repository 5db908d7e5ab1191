"""What is said to be missing, by what failed and how; what the machine shows is tested by tier."""

import errno

import pytest

from labs.engine.backends.namespaces.missing import (
    ALTERNATIVE,
    explain,
    is_chrooted,
    read_sysctl,
    without_docker,
)
from labs.engine.errors import CannotRun, ExitStatus


@pytest.mark.parametrize(
    ("doing", "number", "hint"),
    [
        ("set up IPv6 on a host", errno.ENOENT, "ipv6.disable"),
        ("make a bridge", errno.EOPNOTSUPP, "modprobe -a veth bridge"),
        ("observe", errno.ENOENT, "tcp_diag"),
        ("make a user namespace", errno.EINVAL, "CONFIG_USER_NS"),
        ("make a user namespace", errno.ENOSYS, "CONFIG_USER_NS"),
        ("make a user namespace", errno.ENOSPC, "namespaces"),
    ],
)
def test_a_hint_fits_what_failed(doing: str, number: int, hint: str) -> None:
    error = explain(doing, number)
    assert error.status == ExitStatus.CANNOT_RUN
    assert error.message.startswith(f"Could not {doing}: ")
    assert hint in error.hint


def test_a_failure_that_nobody_foresaw_is_named_all_the_same() -> None:
    assert explain("make a bridge", errno.EEXIST).message == "Could not make a bridge: File exists."


def test_a_sysctl_is_read_or_is_none() -> None:
    assert read_sysctl("kernel.ostype") == "Linux"
    assert read_sysctl("kernel.no_such_thing") is None


def test_this_is_no_chroot() -> None:
    assert not is_chrooted()


def test_what_docker_could_not_do_is_not_said() -> None:
    error = CannotRun("No.", f"Mend it.\n  {ALTERNATIVE}")
    assert without_docker(error).hint == "Mend it."
    assert without_docker(error, "Elsewhere.").hint == "Mend it.\n  Elsewhere."
    other = CannotRun("No.", "Mend it.")
    assert without_docker(other, "Elsewhere.") is other
