"""What a lab of the tests does to have an outcome of each kind."""

from labs.engine.script import EADDRINUSE, OK, Run, between


def show_each_kind(run: Run) -> None:
    """Four steps: ok, refused, measured, skipped."""
    alice = run.host("server").process("alice", user="alice")
    with run.step("ok", expect=OK, why="?"):
        alice.listen(8080)
    with run.step("refused", expect=EADDRINUSE.by("bind"), why="?"):
        alice.listen(8080)
    with run.step("measured", expect=between(1, 3, "apples"), why="?") as step:
        step.measured(2, {"alice": 2})
    with run.step("skipped", expect=OK, why="?") as step:
        step.skip("no apples", since="9.9")
