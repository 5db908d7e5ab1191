"""The kernels that are known, files that are kernels or not, and the store that keeps them."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from labs.engine.errors import BindlabError, CannotRun, EngineError, ExitStatus, UsageError
from labs.engine.kernels.apt import Package, Suite
from labs.engine.kernels.catalogue import KNOWN, KnownKernel, choose_known, find_kernel, find_known
from labs.engine.kernels.fetch import check_release, find_packages
from labs.engine.kernels.image import UML_USAGE
from labs.engine.kernels.kernel import Kernel, Machine
from labs.engine.kernels.libc import needs_libc
from labs.engine.kernels.modules import prune_modules
from labs.engine.kernels.store import (
    DOCUMENT,
    LOCK,
    PARTIAL,
    Stored,
    find_folder,
    find_stored,
    folder_of,
    making,
    open_lock,
    store_errors,
    write_document,
)
from labs.engine.kernels.uml import read_version
from tests.support import ROOT, TIMEOUT, ended, run

NAME = "uml:6.1"
RELEASE = "6.1.176"
ELF = b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + struct.pack("<H", 62)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, empty."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def make_kernel(name: str = NAME) -> None:
    """Put a stand-in into the store."""
    with open_lock() as lock:
        lock.wait()
        with making(name) as draft:
            (draft.folder / "linux").write_text(name)
            (draft.folder / "modules").mkdir()
            stored = Stored(name, "package", "1", RELEASE, "suite", str(draft.final))
            write_document(draft, stored)


# --- names --------------------------------------------------------------------------------


def test_a_name_is_one_kernel() -> None:
    names = [known.name for known in KNOWN]
    assert len(set(names)) == len(names)
    for known in KNOWN:
        assert find_known(known.name) is known
        assert find_known(known.full_name) is known


def test_the_issue_names_these() -> None:
    by_machine = {
        machine: {known.version for known in KNOWN if known.machine is machine}
        for machine in Machine
    }
    assert by_machine[Machine.UML] == {"5.10", "6.1", "6.12", "7.2"}
    assert by_machine[Machine.QEMU] == {"5.10", "6.1", "6.12", "7.2", "7.3"}


@pytest.mark.parametrize(
    ("name", "full"),
    [("6.1", "uml:6.1"), ("qemu:6.1", "qemu:6.1"), ("7.3", "qemu:7.3"), ("uml:7.2", "uml:7.2")],
)
def test_a_version_alone_is_of_the_first_machine_that_has_it(name: str, full: str) -> None:
    known = find_known(name)
    assert known
    assert known.full_name == full


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("6.12,5.10", ["5.10", "6.12"]),
        ("6.1,uml:6.1,qemu:6.1", ["6.1", "qemu:6.1"]),
        ("uml", ["5.10", "6.1", "6.12", "7.2"]),
        ("all", [known.name for known in KNOWN]),
    ],
)
def test_several_are_chosen_at_once(text: str, names: list[str]) -> None:
    assert [known.name for known in choose_known(text)] == names


@pytest.mark.parametrize("text", ["", ",", "6.1,4.4", "6", "uml:7.3"])
def test_what_is_unknown_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(UsageError, match=r"5\.10, 6\.1, .*7\.3"):
        choose_known(text)


def test_an_unknown_kernel_is_refused_with_what_is_known() -> None:
    with pytest.raises(UsageError, match=r"'4\.4'; there are 5\.10, 6\.1, .*7\.3"):
        find_kernel("4.4")


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.full_name)
def test_a_kernel_is_there_once_it_was_fetched(known: KnownKernel) -> None:
    with pytest.raises(CannotRun) as caught:
        find_kernel(known.name)
    assert caught.value.hint == f"invoke kernel.fetch {known.name}"
    make_kernel(known.full_name)
    folder = folder_of(known.full_name)
    expected = Kernel(known.name, known.machine, folder / "linux", folder / "modules")
    assert find_kernel(known.name) == find_kernel(known.full_name) == expected


# --- files of one's own -------------------------------------------------------------------


def write_program(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def bz_image(release: str) -> bytes:
    header = bytearray(0x400)
    header[0x202:0x206] = b"HdrS"
    header[0x20E:0x210] = struct.pack("<H", 0x100)
    header[0x300:] = f"{release} (somebody@somewhere) #1 SMP".encode().ljust(0x100, b"\0")
    return bytes(header)


def test_a_program_with_umls_help_is_a_uml_kernel(tmp_path: Path) -> None:
    path = write_program(tmp_path / "linux", ELF.ljust(5000) + UML_USAGE)
    assert find_kernel(str(path)) == Kernel(str(path), Machine.UML, path)


def test_a_kernel_may_be_a_link_and_a_file_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "linux", ELF.ljust(5000) + UML_USAGE)
    (tmp_path / "link").symlink_to("linux")
    monkeypatch.chdir(tmp_path)
    for name in ("./linux", "linux", "link", "../" + tmp_path.name + "/linux"):
        kernel = find_kernel(name)
        assert kernel.name == name
        assert kernel.image.is_absolute()
        assert kernel.image.samefile("linux")


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b"\x7fELF\0Linux version 6.1.176 (a@b) (gcc 12)\0", (6, 1)),
        (b"\x7fELF\0Linux version %s\0Linux version 7.2.0-rc3+ (a@b)\0", (7, 2)),
        (b"\x7fELF\0", ()),
    ],
)
def test_a_uml_kernel_says_its_version(
    tmp_path: Path, content: bytes, version: tuple[int, ...]
) -> None:
    image = tmp_path / "linux"
    image.write_bytes(content)
    assert read_version(image) == version


def test_a_program_without_umls_help_is_no_kernel(tmp_path: Path) -> None:
    # As systemd-detect-virt has it, which looks for UML.
    content = ELF.ljust(5000) + b"vendor_id\t: User Mode Linux\n"
    refuse(write_program(tmp_path / "detect", content), "is no kernel.")
    refuse(Path(os.path.realpath(sys.executable)), "is no kernel.")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"#!/bin/sh\n# " + UML_USAGE,
        ELF[:10],
        ELF,
        ELF.replace(struct.pack("<H", 62), struct.pack("<H", 183)).ljust(5000) + UML_USAGE,
        b"\x7fELF\x01" + ELF[5:].ljust(5000) + UML_USAGE,
        bz_image("6.1")[:0x204],
    ],
    ids=["empty", "text", "script", "short", "header", "arm", "32 bits", "short setup"],
)
def test_another_file_is_no_kernel(tmp_path: Path, content: bytes) -> None:
    refuse(write_program(tmp_path / "file", content), "is no kernel.")


def refuse(path: Path, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_kernel(str(path))
    assert caught.value.message == f"{path} {words}"


def test_what_is_no_file_is_no_kernel(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, Path("/dev/null"), fifo):
        refuse(path, "is no kernel: not a file.")


def test_a_uml_kernel_has_to_be_executable(tmp_path: Path) -> None:
    path = tmp_path / "linux"
    path.write_bytes(ELF.ljust(5000) + UML_USAGE)
    refuse(path, "cannot be executed.")


def test_a_link_in_a_circle_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    refuse(tmp_path / "a", "cannot be read: Too many levels of symbolic links.")


@pytest.mark.ordinary_only
def test_a_kernel_of_somebody_else_cannot_be_read(tmp_path: Path) -> None:
    path = write_program(tmp_path / "linux", ELF.ljust(5000) + UML_USAGE)
    path.chmod(0)
    refuse(path, "cannot be read: Permission denied.")


def test_what_was_not_built_is_for_bisect_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("./linux", str(tmp_path / "linux"), "file/linux", "link"):
        with pytest.raises(CannotRun, match="There is no kernel at"):
            find_kernel(name)


def test_a_pc_kernel_is_told_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bz_image("6.1.0-none-amd64"))
    assert find_kernel(str(path)) == Kernel(str(path), Machine.QEMU, path)


def test_a_pc_kernel_of_the_machines_own_has_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    monkeypatch.setattr("labs.engine.kernels.image.MODULES", modules)
    (modules / "6.1.0-50-amd64").mkdir(parents=True)
    path = tmp_path / "vmlinuz"
    path.write_bytes(bz_image("6.1.0-50-amd64"))
    assert find_kernel(str(path)).modules == modules / "6.1.0-50-amd64"
    # Whoever made it may have written anything there.
    path.write_bytes(bz_image("../modules/6.1.0-50-amd64"))
    assert find_kernel(str(path)).modules is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("linux", ELF.ljust(5000) + UML_USAGE), ("vmlinuz", bz_image("6.1.0-50-amd64"))],
)
def test_modules_beside_a_kernel_are_its_own(
    name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labs.engine.kernels.image.MODULES", tmp_path)
    of_machine = tmp_path / "6.1.0-50-amd64"
    made = tmp_path / "made"
    folder = tmp_path / "build"
    for path in (of_machine, made, folder):
        path.mkdir()
    image = write_program(folder / name, content)
    before = find_kernel(str(image)).modules
    assert before == (of_machine if name == "vmlinuz" else None)
    # A folder of that name may be anything: it is modules.dep that makes it the kernel's.
    own = folder / "modules"
    own.symlink_to(made)
    assert find_kernel(str(image)).modules == before
    (made / "modules.dep").touch()
    assert find_kernel(str(image)).modules == own


# --- the store ----------------------------------------------------------------------------

MAKER = """
import sys
from labs.engine.kernels.store import making, open_lock
with open_lock() as lock:
    lock.wait()
    with making(sys.argv[1]) as draft:
        (draft.folder / "linux").write_text("half")
        print("half", flush=True)
        sys.stdin.read()
"""


def start_maker() -> subprocess.Popen[bytes]:
    """A fetch that stops halfway, with the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, NAME],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"half\n"
    return process


def entries() -> set[str]:
    return {path.name for path in find_folder().iterdir()}


def test_a_killed_fetch_leaves_no_kernel_and_the_next_one_clears_up() -> None:
    process = start_maker()
    with ended(process):
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    assert find_stored(NAME) is None
    assert entries() == {LOCK, PARTIAL}
    make_kernel()
    assert find_stored(NAME)
    assert entries() == {LOCK, "uml-6.1"}
    assert {path.name for path in folder_of(NAME).iterdir()} == {"linux", "modules", DOCUMENT}


def test_the_next_fetch_clears_up_though_it_is_of_another_kernel() -> None:
    process = start_maker()
    with ended(process):
        process.kill()
        process.wait(TIMEOUT)
    make_kernel("uml:6.12")
    assert entries() == {LOCK, "uml-6.12"}


def test_one_fetch_at_a_time() -> None:
    process = start_maker()
    with ended(process), open_lock() as lock:
        assert not lock.try_take()
        process.kill()
        lock.wait()
        with open_lock() as other:
            assert not other.try_take()
    with open_lock() as lock, open_lock() as other:
        assert lock.try_take()
        assert not other.try_take()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CannotRun("no"), ValueError()])
def test_a_failed_fetch_leaves_nothing(error: BaseException) -> None:
    with pytest.raises(type(error)), open_lock() as lock:
        assert lock.try_take()
        with making(NAME) as draft:
            (draft.folder / "linux").touch()
            (draft.work / "package").touch()
            raise error
    assert entries() == {LOCK}
    assert find_stored(NAME) is None


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match="is full; nothing was kept"),
        store_errors(tmp_path),
        open("/dev/full", "w") as file,
    ):
        file.write("kernel")
        file.flush()


@pytest.mark.parametrize("changes", [{"schema": 2}, {"folder": "/elsewhere"}, {"more": 1}], ids=str)
def test_a_kernel_that_does_not_fit_is_made_anew(changes: dict[str, object]) -> None:
    make_kernel()
    path = folder_of(NAME) / DOCUMENT
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert find_stored(NAME) is None
    make_kernel()
    assert find_stored(NAME)
    assert entries() == {LOCK, "uml-6.1"}


@pytest.mark.parametrize("document", ["", "{", "[]", "null", '{"name": "uml:6.1"}'])
def test_a_kernel_without_its_document_is_none(document: str) -> None:
    make_kernel()
    (folder_of(NAME) / DOCUMENT).write_text(document)
    assert find_stored(NAME) is None


def test_a_kernel_without_its_image_is_none() -> None:
    make_kernel()
    (folder_of(NAME) / "linux").unlink()
    assert find_stored(NAME) is None


def test_a_store_that_was_moved_or_copied_has_no_kernels(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_kernel()
    (tmp_path / "link").symlink_to(cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    assert find_stored(NAME)
    # The path of its loader is built into a UML binary.
    shutil.copytree(cache, tmp_path / "copy")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "copy"))
    assert find_stored(NAME) is None


def test_the_cache_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "bindlab" / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert find_folder() == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert find_folder() == expected


@pytest.mark.parametrize("folder", ["relative", "/proc/bindlab", "/etc/passwd"])
def test_a_cache_folder_that_cannot_be_is_said_so(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    with pytest.raises(CannotRun, match=folder) as caught, open_lock():
        pass
    assert "XDG_CACHE_HOME" in caught.value.hint
    with pytest.raises(CannotRun):
        find_kernel("6.1")


# --- what is kept -------------------------------------------------------------------------

DEPENDENCIES = """\
kernel/net/ipv4/tunnel.ko.xz:
kernel/drivers/net/veth.ko.xz: kernel/lib/far.ko.xz
kernel/lib/far.ko.xz: kernel/lib/farther.ko.xz
kernel/lib/farther.ko.xz:
kernel/drivers/net/vethlike.ko.xz:
kernel/drivers/virtio/virtio.ko.xz:
kernel/sound/soundcard.ko.xz: kernel/lib/farther.ko.xz
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    for line in DEPENDENCIES.splitlines():
        path = tmp_path / "modules" / line.split(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "modules" / "modules.dep").write_text(DEPENDENCIES)
    return tmp_path / "modules"


def test_modules_for_labs_stay_and_what_they_need(modules: Path) -> None:
    prune_modules(modules, Machine.UML)
    left = {path.relative_to(modules).as_posix() for path in modules.rglob("*.ko.xz")}
    assert left == {
        "kernel/net/ipv4/tunnel.ko.xz",
        "kernel/drivers/net/veth.ko.xz",
        "kernel/lib/far.ko.xz",
        "kernel/lib/farther.ko.xz",
    }
    assert not (modules / "kernel" / "sound").exists()


def test_modules_for_a_virtual_machine_stay_as_well(modules: Path) -> None:
    prune_modules(modules, Machine.QEMU)
    assert (modules / "kernel/drivers/virtio/virtio.ko.xz").exists()
    assert not (modules / "kernel/sound/soundcard.ko.xz").exists()


class FakeSuite(Suite):
    """A suite of made-up packages."""

    def __init__(self, *packages: Package) -> None:
        self._packages = {package.name: package for package in packages}

    def find(self, name: str) -> Package:
        return self._packages[name]


def test_a_package_that_names_another_brings_it() -> None:
    suite = FakeSuite(
        Package("linux-image-amd64", "7.2.12-1", 1, ("linux-base-amd64", "linux-image-7.2-amd64")),
        Package("linux-image-7.2-amd64", "7.2.12-1", 1, ("linux-binary-7.2", "linux-modules-7.2")),
        Package("linux-binary-7.2", "7.2.12-1", 1, ()),
        Package("linux-modules-7.2", "7.2.12-1", 1, ("linux-binary-7.2",)),
    )
    (known,) = choose_known("qemu:7.2")
    names = [package.name for package in find_packages(suite, known)]
    assert names[0] == "linux-image-amd64"
    assert sorted(names[1:]) == ["linux-binary-7.2", "linux-image-7.2-amd64", "linux-modules-7.2"]


@pytest.mark.parametrize("version", ["6.12um1", "6.10-1", "7.2um1"])
def test_a_suite_that_has_moved_on_is_said_to(version: str) -> None:
    (known,) = choose_known("6.1")
    suite = FakeSuite(Package("user-mode-linux", version, 1, ()))
    with pytest.raises(CannotRun, match=f"bookworm has Linux 6.1 no more: .* is {version}"):
        find_packages(suite, known)
    with pytest.raises(EngineError, match=r"Linux 6\.12\.1"):
        check_release(known, "6.12.1")


def test_a_libc_that_is_too_old_is_told_from_another_failure(tmp_path: Path) -> None:
    image = tmp_path / "linux"
    write_program(image, b"#!/bin/sh\necho 6.1\n")
    assert not needs_libc(image)
    write_program(image, b"#!/bin/sh\necho \"version 'GLIBC_2.38' not found\" >&2\nexit 1\n")
    assert needs_libc(image)
    write_program(image, b"#!/bin/sh\necho boo >&2\nexit 1\n")
    with pytest.raises(EngineError, match="does not start") as caught:
        needs_libc(image)
    assert caught.value.hint == "boo"


# --- the commands -------------------------------------------------------------------------


def test_the_list_shows_what_is_fetched() -> None:
    before = run("kernel.list")
    assert before.status == ExitStatus.PASSED, before.text
    assert before.output.splitlines()[1].split() == [
        *("this", "one", "the", "host", "-", os.uname().release, "yes")
    ]
    assert "invoke kernel.fetch 5.10,6.1,6.12,7.2,qemu:5.10," in before.output
    assert RELEASE not in before.output
    make_kernel()
    after = run("kernel.list")
    (line,) = [line for line in after.output.splitlines() if line.startswith("6.1 ")]
    assert line.split()[:4] == ["6.1", "uml", "bookworm", RELEASE]
    assert "invoke kernel.fetch 5.10,6.12,7.2,qemu:5.10," in after.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["4.4"], "There is no kernel '4.4'"),
        ([], "names"),
        (["6.1", "--mirror", "nonsense"], "--mirror takes an address"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str], words: str) -> None:
    done = run("kernel.fetch", *arguments)
    assert done.status == ExitStatus.USAGE
    assert words in done.errors


def test_without_apt_there_is_nothing_to_fetch_with(tmp_path: Path) -> None:
    done = run("kernel.fetch", "6.1", PATH=str(tmp_path))
    assert done.status == ExitStatus.CANNOT_RUN
    assert done.errors.startswith("bindlab: apt-get is not installed.")
    assert entries() == {LOCK}


def test_without_debians_keys_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labs.engine.kernels.apt.KEYRING", tmp_path / "none.gpg")
    monkeypatch.setattr("labs.engine.kernels.apt.need", lambda program, _: program)
    with pytest.raises(BindlabError) as caught:
        Suite("bookworm", tmp_path)
    assert caught.value.status == ExitStatus.CANNOT_RUN
    assert caught.value.hint == "sudo apt-get install debian-archive-keyring"


def test_a_kernel_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    make_kernel()
    done = run("kernel.fetch", "6.1", PATH=str(tmp_path))
    assert done.status == ExitStatus.PASSED, done.text
    assert done.output == f"6.1: is there already: Linux {RELEASE}\n"
