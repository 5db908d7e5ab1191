"""Which uids and gids of the machine a run's user namespace maps to: never those of a real user.

As an ordinary user the subordinate ids (subuid(5)) through newuidmap(1); as root a range that
nobody is given, written to the map directly. Inside, both look the same: 0 to 65,535.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from labs.engine.errors import CannotRun

COUNT = 65_536

FIRST_SUBORDINATE = 100_000  # where useradd(8) begins

# Between the ranges that systemd (its UIDS-GIDS page) and sssd hand out by default.
ROOT_START = 2_100_000_000


@dataclass(frozen=True)
class OuterRange:
    """The first of COUNT consecutive ids of the machine, for uids and for gids."""

    uid: int
    gid: int


def map_ids(pid: int) -> None:
    """Map ids 0 to COUNT - 1 of the user namespace that process `pid` has just made.

    Raises CannotRun where the ids or the means to map them are missing.
    """
    if os.geteuid() == 0:
        write_maps(pid)
    else:
        run_newidmap(pid, find_subordinate_range(own_name()))


def write_maps(pid: int) -> None:
    """Map as root: needs CAP_SETUID and CAP_SETGID in the namespace above."""
    for name in ("uid_map", "gid_map"):
        if not own_map_covers(Path(f"/proc/self/{name}").read_text()):
            raise CannotRun(
                f"Root here has too few ids of its own: /proc/self/{name} does not reach "
                f"{ROOT_START + COUNT - 1}.",
                "It is root of a user namespace (a rootless container?). Run bindlab outside it.",
            )
        try:
            Path(f"/proc/{pid}/{name}").write_text(f"0 {ROOT_START} {COUNT}\n")
        except OSError as error:
            raise CannotRun(
                f"Root here may not map ids into a user namespace: {error.strerror}.",
                "In a container, give it the capabilities SYS_ADMIN, SETUID and SETGID.",
            ) from error


def own_map_covers(text: str) -> bool:
    """Whether a uid_map or gid_map has all ids of root's range."""
    entries = [[int(word) for word in line.split()] for line in text.splitlines()]
    return any(
        start <= ROOT_START and start + count >= ROOT_START + COUNT for start, _, count in entries
    )


def find_subordinate_range(user: str) -> OuterRange:
    """The first range of at least COUNT subordinate uids, and gids, of this user."""
    return OuterRange(
        uid=find_range(Path("/etc/subuid"), user), gid=find_range(Path("/etc/subgid"), user)
    )


def find_range(path: Path, user: str) -> int:
    """The first id of the user's first large enough range in a subuid(5) or subgid(5) file."""
    ranges = read_ranges(path)
    for owner, start, count in ranges:
        if owner in (user, str(os.getuid())) and count >= COUNT:
            return start
    first = max([FIRST_SUBORDINATE, *(start + count for _, start, count in ranges)])
    free = f"{first}-{first + COUNT - 1}"
    raise CannotRun(
        f"The user {user} has no {COUNT:,} subordinate ids in {path}.",
        f"sudo usermod --add-subuids {free} --add-subgids {free} {user}",
    )


def read_ranges(path: Path) -> list[tuple[str, int, int]]:
    """Owner, first id and count of each range of a subuid(5) file; none where there is no file."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    fields = [line.split(":") for line in lines]
    return [
        (owner, int(start), int(count))
        for owner, start, count in (field for field in fields if len(field) == 3)
        if start.isdigit() and count.isdigit()
    ]


def own_name() -> str:
    """This user's name, or the number where the machine has no account for it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def run_newidmap(pid: int, outer: OuterRange) -> None:
    """Map with the setuid helpers newuidmap(1) and newgidmap(1)."""
    import shutil
    import subprocess

    for program, start in (("newuidmap", outer.uid), ("newgidmap", outer.gid)):
        path = shutil.which(program)
        if path is None:
            raise CannotRun(
                f"{program} is missing: it gives an ordinary user its subordinate ids.",
                "sudo apt-get install uidmap  (package shadow-utils on Fedora)",
            )
        arguments = [path, str(pid), "0", str(start), str(COUNT)]
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        except OSError as error:
            # Its file capabilities, say, are not in this process's bounding set.
            raise CannotRun(f"{program} cannot be run: {error.strerror}.") from error
        if done.returncode:
            raise CannotRun(
                f"{program} refused: {done.stderr.strip()}",
                f"It must be setuid root (sudo chmod u+s {path}) and may not run under "
                "no_new_privs, as it would in many containers.",
            )
