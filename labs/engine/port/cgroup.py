"""What a process runs in, by its cgroups: a container of which engine's, a unit of systemd's."""

from __future__ import annotations

import functools
import os
import re

from labs.engine.port.sight import Container

# The last part of a path that has one of these, as the engines name their cgroups.
ENGINES = (
    ("docker", re.compile(r"/docker[-/]([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("podman", re.compile(r"/libpod-([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(r"[/:]cri-containerd[-:]([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("cri-o", re.compile(r"/crio-([0-9a-f]{64})(?:\.scope)?(?:/|$)")),
    ("kubernetes", re.compile(r"/kubepods[^:]*/([0-9a-f]{64})(?:/|$)")),
    ("lxc", re.compile(r"/lxc(?:\.payload\.|/)([^/:]+)(?:/|$)")),
    ("systemd-nspawn", re.compile(r"/machine-([^/]+)\.scope(?:/|$)")),
)
UNIT = re.compile(r"/([^/]+\.service)(?:/|$)")
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def find_container(cgroups: str) -> Container | None:
    """The container whose cgroup this is: a path, or all of /proc/PID/cgroup."""
    for engine, pattern in ENGINES:
        if match := re.search(pattern.pattern, cgroups, re.MULTILINE):
            return Container(engine, match[1])
    return None


def find_unit(cgroups: str) -> str:
    """The unit of systemd's whose cgroup this is, the innermost; empty for none."""
    found = [match[1] for match in re.finditer(UNIT.pattern, cgroups, re.MULTILINE)]
    # The manager of a user's units is one itself.
    return next((unit for unit in reversed(found) if not unit.startswith("user@")), "")


def is_of_user(cgroups: str) -> bool:
    """Whether a cgroup is below a user's own manager of systemd's, as its units are."""
    return "/user@" in cgroups


@functools.cache  # thousands of connections are of one
def find_path(number: int) -> str:
    """The path of the cgroup (version 2) with this id, below its mount; empty where none has it.

    The id is the inode number of its folder (cgroup_id() in the kernel).
    """
    for mount in MOUNTS:
        if os.path.exists(f"{mount}/cgroup.controllers"):
            for folder, _, _ in os.walk(mount):
                try:
                    if os.stat(folder).st_ino == number:
                        return folder.removeprefix(mount) or "/"
                except OSError:
                    continue  # gone meanwhile
    return ""
