"""Kernels fetched for real, and fetches that fail or are ended at their worst moment."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.engine.errors import CannotRun, ExitStatus
from labs.engine.kernels.apt import find_mirror
from labs.engine.kernels.catalogue import find_kernel
from labs.engine.kernels.dependencies import read_dependencies
from labs.engine.kernels.image import read_own_kernel
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.store import DOCUMENT, LOCK, PARTIAL, find_folder, find_stored
from tests.kernels.mirror import Mirror, open_mirror
from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    Finished,
    ended,
    environment,
    find_processes,
    list_processes,
    new_token,
    read_namespaces,
    run,
    wait_until,
)

pytestmark = pytest.mark.kernels

NAME = "6.12"
FULL_NAME = "uml:6.12"
FOLDER = "uml-6.12"


@pytest.fixture(scope="session")
def shared_mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    folder = tmp_path_factory.mktemp("mirror")
    with open_mirror(find_mirror(folder), folder) as mirror:
        yield mirror


@pytest.fixture
def mirror(shared_mirror: Mirror) -> Mirror:
    shared_mirror.reset()
    return shared_mirror


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fetch(mirror: Mirror) -> Finished:
    return run("kernel.fetch", NAME, "--mirror", mirror.address)


def start_fetch(mirror: Mirror, token: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*INVOKE, "kernel.fetch", NAME, "--mirror", mirror.address],
        cwd=ROOT,
        env=environment(token),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read_until(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stdout
    while words not in (line := process.stdout.readline().decode()):
        assert line, f"ended before {words!r} came"


def has_processes(token: str) -> bool:
    everybody = {pid: read_namespaces(pid) for pid in list_processes()}
    return bool(find_processes(token, everybody))


def entries() -> set[str]:
    return {path.name for path in find_folder().iterdir()}


def check_kernel() -> None:
    """See that the kernel is there and starts, with what labs need, and nothing beside it."""
    kernel = find_kernel(NAME)
    stored = find_stored(FULL_NAME)
    assert stored
    assert kernel.image == stored.image
    assert kernel.machine is Machine.UML
    said = subprocess.check_output([kernel.image, "--version"], text=True, timeout=TIMEOUT)
    assert said.strip() == stored.release
    assert stored.release.startswith("6.12.")
    assert kernel.modules
    depends = read_dependencies((kernel.modules / "modules.dep").read_text())
    for path in ("kernel/drivers/net/veth.ko", "kernel/net/bridge/bridge.ko"):
        for needed in (path, *depends[path]):
            assert (kernel.modules / needed).stat().st_size > 1000
    assert entries() == {LOCK, FOLDER}
    inside = {path.name for path in kernel.image.parent.iterdir()}
    assert inside - {"lib"} == {"linux", "modules", DOCUMENT}


def check_nothing_left() -> None:
    assert entries() <= {LOCK}
    with pytest.raises(CannotRun):
        find_kernel(NAME)


def test_a_kernel_is_fetched_from_where_apt_gets_packages() -> None:
    done = run("kernel.fetch", NAME)
    assert done.status == ExitStatus.PASSED, done.text
    assert "done in" in done.output
    check_kernel()
    stored = find_stored(FULL_NAME)
    assert stored
    assert read_own_kernel(str(stored.image)).machine is Machine.UML
    listed = [line.split() for line in run("kernel.list").output.splitlines()]
    assert [NAME, "uml", "trixie", stored.release, "yes"] in listed


def test_a_second_fetch_at_the_same_time_waits_and_finds_it_done(mirror: Mirror) -> None:
    mirror.gate.clear()
    first = start_fetch(mirror)
    with ended(first):
        assert mirror.halfway.wait(TIMEOUT)
        second = start_fetch(mirror)
        with ended(second):
            read_until(second, "wait for another fetch to end")
            mirror.gate.set()
            for process, words in ((first, "done in"), (second, "is there already")):
                output, errors = process.communicate(timeout=TIMEOUT)
                assert process.returncode == ExitStatus.PASSED, errors
                assert words in output.decode()
    packages = [path for path in mirror.asked if "user-mode-linux" in path]
    assert [mirror.asked[path] for path in packages] == [1]
    check_kernel()


def test_a_killed_fetch_leaves_no_kernel_and_no_process(mirror: Mirror) -> None:
    mirror.gate.clear()
    token = new_token()
    process = start_fetch(mirror, token)
    with ended(process):
        assert mirror.halfway.wait(TIMEOUT)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    wait_until(lambda: not has_processes(token), "the end of apt-get")
    assert entries() == {LOCK, PARTIAL}
    with pytest.raises(CannotRun):
        find_kernel(NAME)
    mirror.gate.set()
    assert fetch(mirror).status == ExitStatus.PASSED
    check_kernel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_fetch_leaves_nothing(mirror: Mirror, number: signal.Signals) -> None:
    mirror.gate.clear()
    token = new_token()
    process = start_fetch(mirror, token)
    with ended(process):
        assert mirror.halfway.wait(TIMEOUT)
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == ExitStatus.INTERRUPTED
    assert b"Traceback" not in errors
    wait_until(lambda: not has_processes(token), "the end of apt-get")
    check_nothing_left()


@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        (".deb", "Hash Sum mismatch"),
        ("/InRelease", "is not signed"),
        ("/binary-amd64/", "Hash Sum mismatch"),
    ],
)
def test_what_somebody_tampered_with_is_refused(mirror: Mirror, spoiled: str, words: str) -> None:
    mirror.spoiled = spoiled
    done = fetch(mirror)
    assert done.status == ExitStatus.CANNOT_RUN, done.text
    assert done.errors.startswith("bindlab: Could not get ")
    assert words in done.errors
    check_nothing_left()


def test_a_mirror_without_the_package_is_said_to_have_none(mirror: Mirror) -> None:
    mirror.missing = ".deb"
    done = fetch(mirror)
    assert done.status == ExitStatus.CANNOT_RUN
    assert done.errors.startswith(f"bindlab: Could not get user-mode-linux from {mirror.address}.")
    assert "404" in done.errors
    check_nothing_left()


def test_a_mirror_without_the_suite_is_said_to_have_none(mirror: Mirror) -> None:
    mirror.missing = "Release"
    done = fetch(mirror)
    assert done.status == ExitStatus.CANNOT_RUN
    assert "does not have a Release file" in done.errors
    check_nothing_left()


def test_a_mirror_that_does_not_answer_is_said_so() -> None:
    done = run("kernel.fetch", NAME, "--mirror", "http://127.0.0.1:9/debian")
    assert done.status == ExitStatus.CANNOT_RUN
    assert "Could not get the list of packages of trixie from http://127.0.0.1:9" in done.errors
    assert "--mirror URL" in done.errors
    check_nothing_left()


# In megabytes: too small for the list of packages, and for what is in the package.
@pytest.mark.parametrize(("size", "step"), [(1, "1/4"), (220, "3/4")])
def test_a_full_disk_leaves_nothing(mirror: Mirror, cache: Path, size: int, step: str) -> None:
    script = (
        f"mount -t tmpfs -o size={size}m none '{cache}' || exit 99; "
        f"\"$@\"; status=$?; find '{cache}/bindlab/kernels' -mindepth 1; exit $status"
    )
    own_mounts = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    prefix = [*own_mounts, "sh", "-c", script, "sh"]
    done = run("kernel.fetch", NAME, "--mirror", mirror.address, prefix=prefix)
    assert done.status == ExitStatus.FAILED, done.text
    assert done.errors.startswith(f"bindlab: The disk of {find_folder()} is full; nothing was kept")
    *_, last, left = done.output.splitlines()
    assert last.startswith(f"{NAME}: {step}")
    assert left == str(find_folder() / LOCK)
