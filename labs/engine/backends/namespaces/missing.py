"""Says what a machine lacks when a namespace could not be made, and the command that gives it."""

import errno
import os
from pathlib import Path

from labs.engine.errors import CannotRun

ALTERNATIVE = (
    "Or let a Docker engine do it: --backend docker. Or a kernel that needs no namespaces: "
    "invoke kernel.fetch 6.12, then --kernel 6.12."
)
KERNEL_ALTERNATIVE = (
    "Or in a kernel that needs no namespaces: invoke kernel.fetch 6.12, then --kernel 6.12."
)
SYSCTL = Path("/proc/sys")


def explain(doing: str, number: int) -> CannotRun:
    """The error for a step of the bootstrap that failed with this errno."""
    message = f"Could not {doing}: {os.strerror(number)}."
    for hint in (
        _limit_hint(number),
        _chroot_hint(number),
        _debian_hint(number),
        _container_hint(number),
        _apparmor_hint(number),
        _kernel_hint(doing, number),
    ):
        if hint:
            return with_alternative(CannotRun(message, hint))
    return with_alternative(CannotRun(message))


def with_alternative(error: CannotRun) -> CannotRun:
    """The error, with what would work where namespaces do not."""
    hints = [hint for hint in (error.hint, ALTERNATIVE) if hint]
    return CannotRun(error.message, "\n  ".join(hints))


def without_docker(error: CannotRun, alternative: str = "") -> CannotRun:
    """The same for what no Docker engine could do instead, but perhaps the `alternative`."""
    if not error.hint.endswith(ALTERNATIVE):
        return error
    own = error.hint.removesuffix(ALTERNATIVE).rstrip()
    return CannotRun(error.message, "\n  ".join(hint for hint in (own, alternative) if hint))


def read_sysctl(name: str) -> str | None:
    """A sysctl's value, None where the kernel has no such sysctl."""
    try:
        return (SYSCTL / name.replace(".", "/")).read_text().strip()
    except OSError:
        return None


def is_filtered() -> bool:
    """Whether a seccomp filter stands before this process's system calls, as in containers."""
    status = Path("/proc/self/status").read_text()
    return "\nSeccomp:\t2\n" in status


def _limit_hint(number: int) -> str:
    if number != errno.ENOSPC:
        return ""
    names = ("user", "pid", "mnt", "net", "ipc", "uts")
    closed = [name for name in names if read_sysctl(f"user.max_{name}_namespaces") == "0"]
    if not closed:
        return "A limit on namespaces is reached: see sysctl user | grep namespaces."
    return "Namespaces are forbidden by a limit of 0: " + ", ".join(
        f"sudo sysctl -w user.max_{name}_namespaces=10000" for name in closed
    )


def is_chrooted() -> bool:
    """Whether this process's root is a mere folder: then nothing is mounted at it."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return all(line.split()[4] != "/" for line in mounts)


def _chroot_hint(number: int) -> str:
    if number == errno.EPERM and is_chrooted():
        return (
            "A process in a chroot may not make a user namespace (create_user_ns()): enter the "
            "tree with bwrap or systemd-nspawn instead."
        )
    return ""


def _debian_hint(number: int) -> str:
    if number == errno.EPERM and read_sysctl("kernel.unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    return ""


def _apparmor_hint(number: int) -> str:
    sysctl = "kernel.apparmor_restrict_unprivileged_userns"
    if number in (errno.EPERM, errno.EACCES) and read_sysctl(sysctl) == "1":
        return f"AppArmor restricts user namespaces: sudo sysctl -w {sysctl}=0"
    return ""


def _container_hint(number: int) -> str:
    if number == errno.EPERM and is_filtered():
        return (
            "A seccomp filter forbids it, as in a container without CAP_SYS_ADMIN: "
            "docker compose run --rm workbench  has one that allows it; or start this one with "
            "--cap-add SYS_ADMIN --cap-add SYS_PTRACE --security-opt systempaths=unconfined "
            "--security-opt apparmor=unconfined."
        )
    return ""


def _kernel_hint(doing: str, number: int) -> str:
    if number == errno.ENOENT and "IPv6" in doing:
        return (
            "IPv6 is switched off (ipv6.disable=1 on the kernel's command line); hosts have both."
        )
    if number in (errno.EOPNOTSUPP, errno.ENOENT, errno.EPROTONOSUPPORT):
        return (
            "The kernel lacks a module: sudo modprobe -a veth bridge tcp_diag udp_diag. A kernel "
            "that --kernel boots needs them built in, or in the modules folder beside it."
        )
    if number in (errno.EINVAL, errno.ENOSYS) and "namespace" in doing:
        return "The kernel was built without namespaces (CONFIG_USER_NS, CONFIG_NET_NS)."
    return ""
