"""The EUID rule of SO_REUSEPORT: which uid it is that two sockets on one port must share."""

from labs.engine.script import EADDRINUSE, EPERM, OK, Run, close_all, exactly, lab

CONNECTIONS = 40


@lab("euid", title="Sockets may share a port by SO_REUSEPORT only if one user made them all")
def euid(run: Run) -> None:
    """Every user tries to join alice's group on one port; then she leaves it."""
    port = run.port(8080)
    server = run.host("server")
    alice = server.process("alice", user="alice")
    bob = server.process("bob", user="bob")
    root = server.process("root", user="root")

    with run.step(
        f"Alice listens on {port} with SO_REUSEPORT",
        expect=OK,
        why="The port is free. The socket's owner is the uid that made it: see the evidence.",
    ):
        first = alice.listen(port, reuseport=True)

    second_alice = server.process("alice-2", user="alice")
    with run.step(
        "A second process of Alice's joins",
        expect=OK,
        why="Both sockets have SO_REUSEPORT and one owner. They need not be related in any "
        "other way. Each has an accept queue of its own.",
    ):
        second = second_alice.listen(port, reuseport=True)
