"""Joins what sock_diag and /proc say of a host into the evidence of a step."""

from collections.abc import Callable, Mapping

from labs.engine.model import (
    Evidence,
    Observation,
    OpenSocket,
    ProcessEvidence,
    SocketEvidence,
    SocketRow,
)


def gather(
    host: str,
    observation: Observation,
    names: Mapping[int, str],
    user_of: Callable[[int], str],
) -> Evidence:
    """The evidence of one host; `names` are its processes' names by pid."""
    holders: dict[int, list[str]] = {}
    options: dict[int, OpenSocket] = {}
    for process in observation.processes:
        for opened in process.sockets:
            name = names.get(process.pid, f"pid {process.pid}")
            holders.setdefault(opened.inode, []).append(name)
            options[opened.inode] = opened

    def explain(row: SocketRow) -> SocketEvidence:
        opened = options.get(row.inode)
        return SocketEvidence(
            row,
            user_of(row.uid) if row.inode else "",
            tuple(holders.get(row.inode, ())),
            opened.reuseaddr if opened else None,
            opened.reuseport if opened else None,
        )

    return Evidence(
        host,
        tuple(explain(row) for row in observation.sockets),
        tuple(
            ProcessEvidence(names[process.pid], process.credentials, process.capabilities)
            for process in sorted(observation.processes, key=lambda process: process.pid)
            if process.pid in names
        ),
    )
