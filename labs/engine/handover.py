"""How one process of a lab gives a listener to another: SCM_RIGHTS of unix(7)."""

import socket

from labs.engine.remote import Process, Socket

DOOR = "\0handover"  # a name in the abstract namespace of unix(7)


def hand_over(listener: Socket, heir: Process) -> Socket:
    """Send a listener to another process of its host, over a UNIX socket; the heir's copy."""
    near, far = connect_unix(listener.process, heir)
    near.send_fds(listener)
    return far.recv_fds()


def connect_unix(one: Process, other: Process) -> tuple[Socket, Socket]:
    """Join two processes of a network namespace by a UNIX socket: the end of each."""
    door = one.socket(socket.AF_UNIX)
    door.bind(DOOR)
    door.listen()
    caller = other.socket(socket.AF_UNIX)
    caller.connect(DOOR)
    return door.accept(), caller
