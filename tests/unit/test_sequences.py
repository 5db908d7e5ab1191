"""Sequences of calls: what they grow to, how they are kept, and how Hypothesis is led."""

import errno
import gc
import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from labs.engine.agent import encode
from labs.engine.errors import EngineError, ExitStatus, Interrupted, UsageError
from labs.engine.model import SocketRow
from labs.engine.rules.calls import Accept, Acknowledge, Bind, Close, Connect, Open
from labs.engine.rules.model import carry_out
from labs.engine.rules.rulebook import rules_of
from labs.engine.rules.sockets import State
from labs.engine.rules.world import World
from labs.engine.verification.cell import HOSTS, Cell, predict
from labs.engine.verification.comparison import Comparison, Mismatch, find_mismatches
from labs.engine.verification.generating import SIZE, generate, read_steps
from labs.engine.verification.guest_witness import LONGEST, cut, read_errnos
from labs.engine.verification.kept import (
    SHIPPED,
    Origin,
    check_calls,
    decode_cell,
    encode_call,
    find_files,
    keep,
    read_file,
    read_kept,
)
from labs.engine.verification.measuring import is_settled
from labs.engine.verification.sequence import MOST_SOCKETS, PORTS, STEPS, grow
from labs.engine.verification.sequences import with_kept
from labs.engine.verification.table import make_table
from labs.engine.verification.verify import VerifyOptions, choose_check, lines
from labs.engine.verification.witness import place
from tests.support import ROOT

if TYPE_CHECKING:
    from labs.engine.agent import Json

VERSIONS = ((5, 10), (6, 1), (6, 12), (6, 18), (7, 2))
NEW = rules_of((6, 18))
NEW_COUNT = 60
TERMINAL_LINE = 4_095  # bytes: N_TTY_BUF_SIZE


def grown(count: int, version: tuple[int, ...] = (6, 18)) -> list[Cell]:
    """Sequences of bytes that nobody has chosen, always the same ones."""
    numbers = random.Random(1)
    rulebook = rules_of(version)
    return [grow(rulebook, read_steps(numbers.randbytes(STEPS * SIZE))) for _ in range(count)]


def test_zeros_make_no_call() -> None:
    assert grow(NEW, read_steps(bytes(STEPS * SIZE))).calls == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_model_has_an_answer_to_each_call(version: tuple[int, ...]) -> None:
    kinds = set()
    for cell in grown(300, version):
        held: set[str] = set()
        answers = predict(cell, rules_of(version))
        for call, answer in zip(cell.calls, answers, strict=True):
            kinds.add(type(call))
            if isinstance(call, Bind):
                assert call.port in PORTS
            if isinstance(call, Open):
                held.add(call.socket)
            else:
                assert call.socket in held, "nobody makes a call with a socket that he has not"
            if isinstance(call, Accept) and not answer.errno:
                held.add(call.child)
            if isinstance(call, Close):
                held.remove(call.socket)
            assert answer.errno != "EAGAIN", "nobody waits in vain"
            # Who accepts has one more.
            assert len(held) <= 2 * MOST_SOCKETS
    assert len(kinds) == 9


def test_connections_are_made_and_accepted_and_leave_rests() -> None:
    kinds = (Connect, Accept, Acknowledge)
    made = dict.fromkeys(kinds, 0)
    for cell in grown(300):
        for call, answer in zip(cell.calls, predict(cell, NEW), strict=True):
            if isinstance(call, kinds) and not answer.errno:
                made[type(call)] += 1
    assert min(made.values()) >= 3, made


def test_who_is_thrown_away_hears_of_it_before_the_next_call() -> None:
    """On a busy machine a FIN or RST arrives later than the call after it."""
    count = 0
    for cell in grown(1_000):
        world = World(NEW, HOSTS)
        held: set[str] = set()
        for call, after in zip(cell.calls, [*cell.calls[1:], None], strict=True):
            before = world
            _, world = carry_out(world, call)
            held = {*held, call.socket} - ({call.socket} if isinstance(call, Close) else set())
            is_thrown = any(
                one.state is State.RESET and before.sockets[name].state is not State.RESET
                for name, one in world.sockets.items()
                if name in held
            )
            if is_thrown:
                count += 1
                assert isinstance(after, Acknowledge), cell
    assert count >= 3


def row(state: str, local: str, mine: int, peer: str = "0.0.0.0", theirs: int = 0) -> SocketRow:
    return SocketRow("tcp", state, (local, mine), (peer, theirs), 0, 1, 0, 0)


def test_connections_are_settled_once_both_ends_have_heard() -> None:
    listener = row("LISTEN", "127.0.0.1", 2000)
    client = row("ESTABLISHED", "::ffff:127.0.0.1", 40000, "::ffff:127.0.0.1", 2000)
    server = row("ESTABLISHED", "127.0.0.1", 2000, "127.0.0.1", 40000)
    assert is_settled([])
    assert is_settled([listener, client, server])
    assert is_settled([client, replace(server, state="SYN_RECV")])
    assert is_settled([replace(client, state="FIN_WAIT2"), replace(server, state="CLOSE_WAIT")])
    assert not is_settled([listener, client])
    assert not is_settled([replace(client, state="FIN_WAIT1"), server])
    assert is_settled([replace(client, protocol="udp")])


def test_a_seed_makes_the_same_sequences_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, same, other = (make(NEW_COUNT, seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert len(one) == NEW_COUNT
    assert len({cell.calls for cell in one}) == NEW_COUNT
    assert [*tmp_path.iterdir()] == []


def make(count: int, seed: int) -> list[Cell]:
    cells: list[Cell] = []
    generate(NEW, count, seed, cells.append)
    return cells


class FoundError(Exception):
    """What a judge raises that has found fault."""


def test_what_a_judge_finds_is_made_short() -> None:
    def judge(cell: Cell) -> None:
        if [*map(type, cell.calls)].count(Close) >= 2:
            raise FoundError(cell)

    with pytest.raises(FoundError) as found:
        generate(NEW, 200, 1, judge, shrink=True)
    (cell,) = found.value.args
    assert [*map(type, cell.calls)] in ([Open, Close, Open, Close], [Open, Open, Close, Close])


@pytest.mark.parametrize("error", [Interrupted(130), EngineError("The guest has died.")])
def test_what_is_no_finding_ends_it_at_once(error: BaseException) -> None:
    asked = []

    def judge(cell: Cell) -> None:
        asked.append(cell)
        raise error

    with pytest.raises(type(error)) as raised:
        generate(NEW, 50, 1, judge, shrink=True)
    assert raised.value is error
    assert len(asked) == 1


def test_a_signal_ends_it_at_once() -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted(ExitStatus.INTERRUPTED)

    asked = []

    def judge(cell: Cell) -> None:
        asked.append(cell)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(Interrupted):
            generate(NEW, 50, 1, judge, shrink=True)
        assert signal.getsignal(signal.SIGTERM) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(asked) == 1


def test_a_signal_is_not_lost_while_garbage_is_collected() -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted(ExitStatus.INTERRUPTED)

    def collected(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            gc.callbacks.remove(collected)
            os.kill(os.getpid(), signal.SIGTERM)

    asked = []

    def judge(cell: Cell) -> None:
        asked.append(cell)
        if len(asked) == 1:
            gc.callbacks.append(collected)
            gc.collect()

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(Interrupted):
            generate(NEW, 50, 1, judge)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(asked) == 1


def test_each_sequence_has_ports_of_its_own() -> None:
    ports = [
        {call.port for call in place(cell, number).calls if isinstance(call, Bind) and call.port}
        for number, cell in enumerate(grown(100))
    ]
    assert sum(map(len, ports)) == len(set().union(*ports))
    assert all(0 < port < 32_768 for some in ports for port in some)


# --- kept ---------------------------------------------------------------------------------


def test_a_sequence_is_kept_and_read_again(tmp_path: Path) -> None:
    cells = [cell for cell in grown(100) if cell.calls]
    for cell in cells:
        assert decode_cell([encode_call(call) for call in cell.calls]).calls == cell.calls
    cell = cells[0]
    answer = next(predict(cell, NEW))
    mismatch = Mismatch(cell, (22,) + (0,) * (len(cell.calls) - 1), 0, answer)
    path = keep(mismatch, Origin("/boot/vmlinux", "6.1.0", 7, "2026-11-28"), tmp_path / "new")
    assert path == tmp_path / "new" / "vmlinux-6.1.0-seed-7.json"
    document = json.loads(path.read_text())
    assert (document["release"], document["seed"], document["date"]) == ("6.1.0", 7, "2026-11-28")
    assert document["answered"][:2] == ["EINVAL", "OK"]
    assert read_file(path).calls == cell.calls
    assert [one.calls for one in read_kept(f"{path},{path.parent}")] == [cell.calls] * 2


def test_those_that_are_shipped_are_cells_of_the_table() -> None:
    names = {path.stem for path in find_files(SHIPPED)}
    assert len(names) >= 2
    table = {cell.about.partition(":")[0] for cell in make_table()}
    assert names <= table


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema": 2, "about": "", "calls": []}',
        '{"schema": 1, "about": "", "calls": [["bind", "alice", "A", "127.0.0.1", 99]]}',
        '{"schema": 1, "about": "", "calls": [["bind", "nobody", "A", "127.0.0.1", 80]]}',
        '{"schema": 1, "about": "", "calls": [["socket", "alice", "A", "TCP", "AF_UNIX"]]}',
        '{"schema": 1, "about": "", "calls": [["fly", "alice", "A"]]}',
        '{"schema": 1, "about": "", "calls": []}',
        '{"schema": 1, "about": "", "calls": [["fchown", "alice", "A", -7]]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_has_no_sequence_is_a_usage_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"some\.json"):
        read_kept(str(path))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["bind", "bob", "A", "127.0.0.1", 2000], "bob has no socket A"),
        (["listen", "alice", "B"], "alice has no socket B"),
        (["bind", "alice", "A", "::1", 2000], "::1 is no address of"),
        (["connect", "alice", "A", "::1", 2000, "B"], "::1 is no address of"),
        (["bind", "alice", "A", "nonsense", 2000], "the rules do not speak of this"),
    ],
)
def test_calls_that_nobody_can_make_are_no_finding(call: list[object], said: str) -> None:
    calls: list[object] = [["socket", "alice", "A", "TCP", "AF_INET"], call]
    cell = decode_cell(calls)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=said):
        check_calls(cell, rules_of((6, 18)))


def test_what_cannot_be_kept_is_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shortest = find_mismatch()
    found = Comparison("host", ExitStatus.DIFFERS, "6.18", 1, 1, 1.0, (shortest,))
    origin = Origin("host", "6.18", 1, "2026-11-28")
    unkept = with_kept(found, shortest, origin, tmp_path / "file" / "folder")
    assert (unkept.status, unkept.shortest, unkept.kept) == (ExitStatus.DIFFERS, shortest, "")
    said = "\n".join(lines(unkept))
    assert all(line in said for line in shortest.lines())
    assert "Could not keep a sequence" in said
    kept = with_kept(found, shortest, origin, tmp_path / "a folder")
    again = [line for line in lines(kept) if "again:" in line]
    assert again == [f"    again: invoke rules.verify --kernel host --replay '{kept.kept}'"]


def find_mismatch() -> Mismatch:
    """One socket bound, which a kernel is made to have refused."""
    calls = [["socket", "alice", "A", "TCP", "AF_INET"], ["bind", "alice", "A", "127.0.0.1", 2000]]
    cell = decode_cell(calls)  # type: ignore[arg-type]
    rulebook = rules_of((6, 18))
    (found,) = find_mismatches([cell], [[0, errno.EADDRINUSE]], rulebook)
    return found


def test_where_there_is_none_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kept sequence"):
        read_kept(str(tmp_path))
    with pytest.raises(UsageError, match="No such file"):
        read_kept(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    "options",
    [
        VerifyOptions(sequences=0),
        VerifyOptions(replay=""),
        VerifyOptions(seed=3),
        VerifyOptions(keep="here"),
        VerifyOptions(sequences=3, replay="here"),
    ],
)
def test_options_that_do_not_go_together(options: VerifyOptions) -> None:
    with pytest.raises(UsageError):
        choose_check(options)


def test_without_hypothesis_it_cannot_run_and_says_how_to_get_it() -> None:
    hidden = "import sys; sys.modules['hypothesis'] = None"
    code = f"{hidden}; from invoke.main import program; program.run()"
    done = subprocess.run(
        [sys.executable, "-c", code, "rules.verify", "--sequences", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125, done.stdout + done.stderr
    assert "Hypothesis is not installed" in done.stdout
    assert "-m pip install" in done.stdout


# --- into a guest -------------------------------------------------------------------------


def test_messages_into_a_guest_are_short() -> None:
    sequences = [[encode_call(call) for call in cell.calls] for cell in grown(200)]
    cuts = [*cut(sequences)]
    assert [sequence for some in cuts for sequence in some] == sequences
    assert all(len(encode({"sequences": some})) < TERMINAL_LINE for some in cuts)
    assert len(cuts) < len(sequences) * 0.7
    with pytest.raises(UsageError, match="too long"):
        next(cut([[["bind"]] * LONGEST]))


def test_a_guest_that_tells_nonsense_is_found_out() -> None:
    assert read_errnos([0, 98]) == [0, 98]
    wrong: list[Json] = ["98", [0, "98"], None]
    for told in wrong:
        with pytest.raises(EngineError, match="nonsense"):
            read_errnos(told)
