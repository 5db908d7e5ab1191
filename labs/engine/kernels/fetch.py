"""What `invoke kernel.fetch` does: kernels from Debian's packages into the store."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from labs.engine.backends.program import ProgramFailed, need, read
from labs.engine.errors import CannotRun, EngineError, ExitStatus, standard_output
from labs.engine.kernels.apt import MIRROR_HINT, Package, Suite
from labs.engine.kernels.catalogue import choose_known
from labs.engine.kernels.kernel import Machine
from labs.engine.kernels.libc import PACKAGE as LIBC
from labs.engine.kernels.libc import install_libc, needs_libc
from labs.engine.kernels.modules import prune_modules
from labs.engine.kernels.store import (
    Stored,
    find_stored,
    folder_of,
    making,
    measure,
    open_lock,
    write_document,
)
from labs.engine.progress import ImageDone, ImagesPlanned, ImageStarted, OutputWritten
from labs.engine.progress import InstructionStarted as Step
from labs.engine.views.progress import open_progress_view, show_size

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from labs.engine.kernels.catalogue import KnownKernel
    from labs.engine.kernels.store import Draft
    from labs.engine.progress import Progress

STEPS = 4
# A package that only names the newest one of its kind depends on one of these.
PART = re.compile(r"linux-(image|binary|modules)-.*")
IMAGES = (
    "usr/bin/linux.uml",
    "boot/vmlinuz-*",
    "lib/modules/*/vmlinuz",
    "usr/lib/modules/*/vmlinuz",
)
MODULES = ("usr/lib/uml/modules/*", "lib/modules/*", "usr/lib/modules/*")


def fetch_kernels(names: str, mirror: str) -> ExitStatus:
    """Fetch kernels and show how far it is; raises UsageError, CannotRun and EngineError."""
    chosen = choose_known(names)
    with (
        open_progress_view(standard_output()) as show,
        contextlib.closing(fetch_each(chosen, mirror)) as events,
    ):
        for event in events:
            show(event)
    return ExitStatus.PASSED


def fetch_each(chosen: Sequence[KnownKernel], mirror: str) -> Generator[Progress, None, None]:
    """Fetch kernels, one after the other."""
    yield ImagesPlanned(tuple(known.name for known in chosen))
    for known in chosen:
        yield ImageStarted(known.name)
        with open_lock() as lock:
            if not lock.try_take():
                yield Step(known.name, 1, STEPS, "wait for another fetch to end")
                lock.wait()
            yield from fetch(known, mirror)


def fetch(known: KnownKernel, mirror: str) -> Iterator[Progress]:
    """Fetch a kernel that is not there yet; only for whoever has the store's lock."""
    if stored := find_stored(known.full_name):
        yield ImageDone(known.name, kept=f"is there already: Linux {stored.release}")
        return
    if known.machine is Machine.UML and os.uname().machine != "x86_64":
        raise CannotRun(f"Debian's UML kernels do not run on {os.uname().machine}.")
    with making(known.full_name) as draft:
        yield from make(known, draft, mirror)
    yield ImageDone(known.name, measure(folder_of(known.full_name)))


def make(known: KnownKernel, draft: Draft, mirror: str) -> Iterator[Progress]:
    """Make a kernel out of packages."""
    suite = Suite(known.suite, draft.work, mirror)
    yield Step(known.name, 1, STEPS, f"apt-get update for {known.suite}")
    suite.update()
    packages = find_packages(suite, known)
    main = packages[0]
    size = show_size(sum(package.size for package in packages))
    yield Step(known.name, 2, STEPS, f"apt-get download {main.name} {main.version}, {size}")
    yield from download(known, suite, packages)
    yield Step(known.name, 3, STEPS, "dpkg-deb --extract")
    tree = suite.unpack(packages)
    release = keep_image(tree, draft)
    check_release(known, release)
    if known.machine is Machine.UML:
        yield Step(known.name, 4, STEPS, "linux --version")
        yield from make_startable(known, suite, draft)
    else:
        yield Step(known.name, 4, STEPS, "depmod")
        index_modules(draft, release)
    prune_modules(draft.folder / "modules", known.machine)
    stored = Stored(
        name=known.full_name,
        package=main.name,
        package_version=main.version,
        release=release,
        suite=known.suite,
        folder=str(draft.final),
    )
    write_document(draft, stored)


def find_packages(suite: Suite, known: KnownKernel) -> Sequence[Package]:
    """The package that is asked for, of the known version, and those that are parts of it."""
    asked = suite.find(known.package)
    if not is_version(known, asked.version):
        raise CannotRun(
            f"{known.suite} has Linux {known.version} no more: {asked.name} is {asked.version}.",
            MIRROR_HINT,
        )
    found = {asked.name: asked}
    left = list(asked.depends)
    while left:
        name = left.pop()
        if PART.fullmatch(name) and name not in found:
            found[name] = suite.find(name)
            left.extend(found[name].depends)
    return [*found.values()]


def download(
    known: KnownKernel, suite: Suite, packages: Sequence[Package]
) -> Iterator[OutputWritten]:
    """Download packages and tell how far it is."""
    for line in suite.download(packages):
        yield OutputWritten(known.name, line)


def keep_image(tree: Path, draft: Draft) -> str:
    """Move image and modules from the unpacked packages into the draft; the kernel's release."""
    find_one(tree, IMAGES).rename(draft.folder / "linux")
    modules = find_one(tree, MODULES)
    modules.rename(draft.folder / "modules")
    return modules.name


def find_one(tree: Path, patterns: Sequence[str]) -> Path:
    """The first path that fits one of the patterns."""
    for pattern in patterns:
        for path in tree.glob(pattern):
            return path
    raise EngineError(f"The packages have nothing like {' or '.join(patterns)}.")


def is_version(known: KnownKernel, text: str) -> bool:
    """Whether a release or a package's version is one of this kernel's version."""
    return re.match(rf"{re.escape(known.version)}(?!\d)", text) is not None


def check_release(known: KnownKernel, release: str) -> None:
    """EngineError where a kernel is not of the version that its package named."""
    if not is_version(known, release):
        raise EngineError(f"The package of Linux {known.version} holds Linux {release}.")


def make_startable(known: KnownKernel, suite: Suite, draft: Draft) -> Iterator[Progress]:
    """See that the UML binary starts on this machine, with the suite's libc if need be."""
    if not needs_libc(draft.folder / "linux"):
        return
    libc = suite.find(LIBC)
    yield from download(known, suite, [libc])
    install_libc(draft, suite.unpack([libc]))


def index_modules(draft: Draft, release: str) -> None:
    """Write modules.dep and its like, which Debian's packages for PCs leave to the installation."""
    depmod = need("depmod", "sudo apt-get install kmod")
    root = draft.work / "root"
    folder = root / "lib" / "modules" / release
    folder.parent.mkdir(parents=True)
    # depmod looks into one of these two, depending on its version.
    (root / "usr").mkdir()
    (root / "usr" / "lib").symlink_to("../lib")
    modules = draft.folder / "modules"
    modules.rename(folder)
    try:
        read([depmod, "--basedir", str(root), release], draft.work)
    except ProgramFailed as error:
        raise EngineError(f"The modules have no order: {error}.", error.quote()) from error
    folder.rename(modules)
