"""What cannot be done is refused by one message and an exit status, before it is begun."""

import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    Finished,
    denied,
    deny_processes,
    deny_user_namespaces,
    environment,
    limit_namespaces,
    run,
)

pytestmark = pytest.mark.namespaces
root_only = pytest.mark.root_only
ordinary_only = pytest.mark.ordinary_only

NOTHING_STARTS = denied(deny_processes)
NESTED = ("unshare", "--user", "--map-root-user")


def run_in_shell(script: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Finished:
    """Run invoke by a shell script, in which it is `"$@"`."""
    return run(*arguments, prefix=(*prefix, "sh", "-c", script, "sh"))


def check_refusal(done: Finished, status: int, *words: str, lines: int = 1) -> None:
    """One message that has these words, so many lines long, on the error output alone."""
    assert done.status == status, done
    assert done.output == ""
    assert done.errors.endswith("\n")
    assert done.errors.count("\n") == lines, done.errors
    assert "Traceback" not in done.errors
    for word in words:
        assert word in done.errors


def check_missing(done: Finished, *words: str) -> None:
    """The message on what is missing, the hint, and what else would work."""
    check_refusal(done, 125, *words, "--backend docker", "--kernel", lines=3)


# --- the command line ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("lab.nope",), "lab.nope"),
        (("lab.euid", "--nope"), "--nope"),
        (("--nope", "lab.euid"), "--nope"),
        (("lab.euid", "--seed"), "seed"),
        (("lab.euid", "--seed", "x"), "--seed"),
        (("lab.euid", "--seed", "1.5"), "--seed"),
        (("lab.euid", "--json", "/no/such/folder/file"), "/no/such/folder/file"),
        (("lab.euid", "--json", "/no/such/folder/file.jsonl"), "/no/such/folder/file.jsonl"),
        (("lab.euid", "--json", "/proc/file"), "/proc/file"),
        (("lab.euid", "--json", "/proc/file.jsonl"), "/proc/file.jsonl"),
        (("lab.euid", "--json", "/"), "/"),
        (("lab.euid", "--json", f"{ROOT}/labs"), "labs"),
    ],
)
def test_a_usage_error_is_one_line_and_starts_nothing(
    arguments: tuple[str, ...], word: str
) -> None:
    check_refusal(run(*arguments, prefix=NOTHING_STARTS), 2, word)


def test_where_nothing_may_start_nothing_does() -> None:
    """The test above would see it if something started."""
    done = run("lab.euid", prefix=NOTHING_STARTS)
    assert done.status not in (0, 2)


@ordinary_only
def test_a_file_that_one_may_not_write_is_a_usage_error() -> None:
    check_refusal(run("lab.euid", "--json", "/etc/passwd", prefix=NOTHING_STARTS), 2, "/etc/passwd")


@pytest.mark.parametrize("arguments", [("--dry", "lab.euid"), ("lab.euid", "--dry")])
def test_a_dry_run_starts_nothing(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, prefix=NOTHING_STARTS)
    assert done.status == 0, done.errors
    assert done.errors == ""
    assert "bind(" in done.output
    assert "expected EADDRINUSE" in done.output
    assert "observed" not in done.output


# --- output that cannot be written --------------------------------------------------------


def test_full_output_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = run("lab.euid", stdout=full.fileno())
    check_refusal(done, 70, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("arguments", [("--json", "-"), ("--dry",)])
def test_full_output_is_an_error_at_the_end_of_a_run_too(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run("lab.euid", *arguments, stdout=full.fileno())
    assert done.status == 70
    assert done.errors.splitlines()[-1].startswith("bindlab: ")
    assert os.strerror(errno.ENOSPC) in done.errors
    assert "Traceback" not in done.errors


@pytest.mark.parametrize("arguments", [(), ("--json", "-"), ("--dry",)])
def test_no_output_at_all_is_an_error(arguments: tuple[str, ...]) -> None:
    done = run_in_shell('exec "$@" >&-', "lab.euid", *arguments)
    assert done.status == 70, done
    assert done.errors.splitlines()[-1].startswith("bindlab: ")
    assert "Traceback" not in done.errors


def test_a_message_that_cannot_be_written_changes_no_status() -> None:
    assert run_in_shell('exec "$@" 2>/dev/full', "lab.euid", "--seed", "x").status == 2
    assert run_in_shell('exec "$@" 2>&-', "lab.euid", "--seed", "x").status == 2


def test_a_full_device_for_the_record_is_an_error() -> None:
    done = run("lab.euid", "--json", "/dev/full")
    assert done.status == 70
    assert done.errors == f"bindlab: Could not write /dev/full: {os.strerror(errno.ENOSPC)}.\n"


@root_only
@pytest.mark.parametrize("old", ["", "an older record"])
def test_a_full_file_system_leaves_no_part_of_a_record(old: str, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    found = tmp_path / "found"
    script = """
        full=$1 found=$2 old=$3
        shift 3
        mount -t tmpfs -o size=64k none "$full" || exit 1
        [ -z "$old" ] || printf %s "$old" >"$full/record.json"
        cat /dev/zero >"$full/filling" 2>&-
        "$@"
        status=$?
        rm "$full/filling"
        (ls -A "$full"; cat "$full"/*) >"$found" 2>&-
        exit $status
    """
    record = folder / "record.json"
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", str(folder), str(found), old)
    done = run("lab.euid", "--json", str(record), prefix=prefix)
    assert done.status == 70, done
    assert done.errors == f"bindlab: Could not write {record}: {os.strerror(errno.ENOSPC)}.\n"
    assert found.read_text() == (f"record.json\n{old}" if old else "")


# --- the record ---------------------------------------------------------------------------


def run_record(*arguments: str) -> dict[str, Any]:
    """Run the lab and read the record that it writes to its output."""
    done = run("lab.euid", *arguments, "--json", "-")
    assert done.status == 0, done
    document = json.loads(done.output)
    (record,) = document["runs"]
    assert isinstance(record, dict)
    return record


def test_a_record_is_alone_on_the_output() -> None:
    done = run("lab.euid", "--json", "-")
    assert done.status == 0
    document = json.loads(done.output)
    assert [record["lab"] for record in document["runs"]] == ["euid"]
    assert [record["status"] for record in document["runs"]] == [0]
    assert "steps:" in done.errors


def test_a_record_in_a_file_is_the_same_document(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("an older one, much longer than the new one" * 10_000)
    done = run("lab.euid", "--json", str(path))
    assert done.status == 0
    assert done.errors == ""
    assert json.loads(path.read_text())["runs"][0]["status"] == 0
    assert os.listdir(tmp_path) == ["record.json"]


def test_events_are_one_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    assert run("lab.euid", "--json", str(path)).status == 0
    events = [json.loads(line) for line in path.read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "run_started"
    assert names[-1] == "run_ended"
    assert names.count("run_started") == names.count("run_ended") == 1
    assert names.count("step_started") == names.count("step_ended") > 2
    assert names.count("call_made") > names.count("step_started")


# --- the seed -----------------------------------------------------------------------------


def repeatable(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every call of a run, without pids, inodes and what chance decides: who gets a connection."""
    calls = []
    for step in record["steps"]:
        for call in step["calls"]:
            name = call["call"].partition("(")[0]
            if step["expected"]["kind"] == "measured" or name == "close":
                continue
            result = "" if name in ("fork", "fstat", "accept") else call["result"]
            calls.append((step["title"], call["process"], call["uid"], call["call"], result))
    return calls


def ports(record: dict[str, Any]) -> set[str]:
    """The ports of all bind() calls."""
    calls = [call["call"] for step in record["steps"] for call in step["calls"]]
    return {match.group(1) for call in calls if (match := re.fullmatch(r"bind\(.*:(\d+)\)", call))}


def test_a_seed_gives_the_same_run_again_and_another_seed_another() -> None:
    first, again, other = (run_record("--seed", seed) for seed in ("1", "1", "2"))
    assert first["seed"] == again["seed"] == 1
    assert len(repeatable(first)) > 20
    assert repeatable(first) == repeatable(again)
    assert [host["ipv4"] for host in first["hosts"]] == [host["ipv4"] for host in again["hosts"]]
    assert ports(first) == ports(again)
    assert ports(first)
    assert not ports(first) & ports(other)
    assert "8080" not in ports(first) | ports(other)


def test_without_a_seed_ports_are_the_usual_ones() -> None:
    assert ports(run_record()) == {"8080"}


# --- what may be missing on a machine -----------------------------------------------------


def test_too_few_ids_of_its_own() -> None:
    """Root of a user namespace with one id, as in some rootless containers."""
    check_missing(run("lab.euid", prefix=NESTED), "too few ids", "uid_map", "outside")


def test_user_namespaces_limited_to_none() -> None:
    script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    check_missing(
        run_in_shell(script, "lab.euid", prefix=NESTED),
        "Could not make a user namespace",
        "sudo sysctl -w user.max_user_namespaces=",
    )


@root_only
@pytest.mark.parametrize("kind", ["net", "pid", "mnt", "ipc", "uts"])
def test_other_namespaces_limited_to_none(kind: str) -> None:
    """The limit is set in a user namespace above the run's; one with enough ids takes root."""
    done = run("lab.euid", prefix=denied(limit_namespaces, kind, "0"))
    assert done.status == 125, done
    assert f"sudo sysctl -w user.max_{kind}_namespaces=" in done.text
    assert "Traceback" not in done.text


@root_only
def test_a_limit_that_only_a_host_meets_is_named_for_what_it_is() -> None:
    done = run("lab.euid", prefix=denied(limit_namespaces, "pid", "1"))
    assert done.status == 125, done
    assert "Could not make a host: " in done.text
    assert "A limit on namespaces is reached" in done.text


def test_user_namespaces_forbidden_by_a_filter() -> None:
    check_missing(
        run("lab.euid", prefix=denied(deny_user_namespaces)),
        "Could not make a user namespace",
        "seccomp",
        "--cap-add SYS_ADMIN",
    )


@root_only
@pytest.mark.parametrize("capability", ["setuid", "setgid"])
def test_root_without_the_capability_to_map(capability: str) -> None:
    done = run(
        "lab.euid",
        prefix=("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}"),
    )
    check_missing(done, "may not map ids", "SETUID", "SETGID")


@ordinary_only
def test_newuidmap_is_missing(tmp_path: Path) -> None:
    done = run("lab.euid", PATH=str(tmp_path))
    check_missing(done, "newuidmap", "sudo apt-get install uidmap")


@ordinary_only
@pytest.mark.parametrize("program", ["newuidmap", "newgidmap"])
def test_a_helper_without_its_setuid_bit(program: str, tmp_path: Path) -> None:
    helper = shutil.which(program)
    assert helper
    copy = shutil.copy(helper, tmp_path)
    done = run("lab.euid", PATH=f"{tmp_path}:{os.environ['PATH']}")
    check_missing(done, program, f"sudo chmod u+s {copy}")


@ordinary_only
@pytest.mark.parametrize("file", ["/etc/subuid", "/etc/subgid"])
def test_no_subordinate_ids(file: str) -> None:
    done = run_in_shell(
        f'mount --bind /dev/null {file} && exec "$@"',
        "lab.euid",
        prefix=("unshare", "--user", "--map-current-user", "--mount", "--keep-caps"),
    )
    check_missing(done, file, "sudo usermod --add-subuids")


@ordinary_only
def test_no_new_privileges() -> None:
    """As a service with NoNewPrivileges=yes: setuid programs have no effect."""
    done = run("lab.euid", prefix=("setpriv", "--no-new-privs"))
    check_missing(done, "newuidmap", "no_new_privs")


def test_the_script_beside_the_interpreter_says_the_same() -> None:
    done = subprocess.run(
        [str(Path(INVOKE[0]).with_name("invoke")), "lab.euid", "--seed", "x"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    check_refusal(Finished(done.returncode, done.stdout, done.stderr), 2, "--seed")


@root_only
def test_in_a_chroot(tmp_path: Path) -> None:
    """In another tree of the same files, as the same tree would not be told from the real one."""
    enter = """
        set -e
        cd "$TREE"
        for entry in /*; do
            if [ -L "$entry" ]; then cp -P "$entry" .
            elif [ -d "$entry" ]; then mkdir ".$entry" && mount --rbind "$entry" ".$entry"
            fi
        done
        exec chroot . env --chdir="$PROJECT" "$@"
    """
    places = {"TREE": str(tmp_path), "PROJECT": str(ROOT)}
    prefix = ("unshare", "--mount", "env", *(f"{name}={place}" for name, place in places.items()))
    done = run_in_shell(enter, "lab.euid", prefix=prefix)
    check_missing(done, "user namespace", "chroot")
