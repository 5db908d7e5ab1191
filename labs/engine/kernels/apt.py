"""One of Debian's suites as apt sees it, in a folder beside what it knows of this machine.

Nothing of the machine's own state is read or changed but how to reach a mirror: its address, and
apt's settings for downloads (a proxy). apt checks all that it gets against Debian's signatures.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labs.engine.backends.program import ProgramFailed, follow, need, read
from labs.engine.errors import CannotRun, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:/[^\s\[\]]+")
MIRROR_HINT = "--mirror URL names another mirror, as http://deb.debian.org/debian."
STATUS = re.compile(r"dlstatus:[^:]*:(?P<percent>[0-9.]+):(?P<text>.*)")
FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded|don't have enough free space")

# Settings of the machine that are not for a view of one suite: hooks and further files of it.
FOREIGN_SETTINGS = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::Allow")


@dataclass(frozen=True)
class Package:
    """A package as the suite has it; `size` in bytes."""

    name: str
    version: str
    size: int
    depends: tuple[str, ...]


class Suite:
    """A suite of a mirror's, looked at in a folder of its own."""

    def __init__(self, name: str, folder: Path, mirror: str = "") -> None:
        self.name = name
        self._folder = folder
        self._environment = {"APT_CONFIG": str(folder / "apt.conf")}
        for program in ("apt-get", "dpkg-deb"):
            need(program, "Kernels come from Debian's packages: fetch them on Debian or Ubuntu.")
        need("setpriv", "sudo apt-get install util-linux")
        if not KEYRING.exists():
            raise CannotRun(
                f"Debian's keys are missing: {KEYRING}.",
                "sudo apt-get install debian-archive-keyring",
            )
        if mirror and not ADDRESS.fullmatch(mirror):
            raise UsageError(f"--mirror takes an address of Debian's packages, not {mirror!r}.")
        self._mirror = mirror or find_mirror(folder)
        self._write_settings()

    def update(self) -> None:
        """Get the suite's list of packages."""
        what = f"get the list of packages of {self.name} from {self._mirror}"
        try:
            read(["apt-get", "--quiet=2", "update"], self._folder, self._environment)
        except ProgramFailed as error:
            raise self._failure(what, error) from error

    def find(self, name: str) -> Package:
        """The newest package of this name; CannotRun where the suite has none."""
        command = ["apt-cache", "show", "--no-all-versions", name]
        try:
            text = read(command, self._folder, self._environment)
        except ProgramFailed:
            text = ""
        values = dict(re.findall(r"^([A-Z][A-Za-z-]+): (.*)$", text, re.MULTILINE))
        if not values:  # as for a name that other packages provide
            raise CannotRun(f"{self.name} has no package {name}.", MIRROR_HINT)
        depends = re.findall(r"(?:^|[,|]) *([^ ,|]+)", values.get("Depends", ""))
        return Package(name, values["Version"], int(values["Size"]), tuple(depends))

    def download(self, packages: Sequence[Package]) -> Iterator[str]:
        """Get packages into the folder, checked, and tell how far it is."""
        names = [f"{package.name}={package.version}" for package in packages]
        command = ["apt-get", "--quiet=2", "--option=APT::Status-Fd=1", "download", *names]
        told = ""
        try:
            for line in follow(command, self._folder, self._environment):
                if match := STATUS.fullmatch(line):
                    text = f"{float(match['percent']):.0f} % {match['text']}"
                    if text != told:
                        yield (told := text)
        except ProgramFailed as error:
            raise self._failure(f"get {packages[0].name} from {self._mirror}", error) from error

    def unpack(self, packages: Sequence[Package]) -> Path:
        """Unpack packages that were downloaded into one folder."""
        tree = self._folder / "tree"
        for package in packages:
            (archive,) = self._folder.glob(f"{package.name}_*.deb")
            try:
                read(["dpkg-deb", "--extract", str(archive), str(tree)], self._folder)
            except ProgramFailed as error:
                raise self._failure(f"unpack {package.name}", error) from error
            archive.unlink()
        return tree

    def _write_settings(self) -> None:
        folder = self._folder
        for name in ("etc/apt.conf.d", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        options = f"arch=amd64 target=Packages signed-by={KEYRING}"
        (folder / "etc" / "sources.list").write_text(
            f"deb [{options}] {self._mirror} {self.name} main\n"
        )
        settings = {
            "Dir::Etc": f"{folder}/etc",
            "Dir::State": f"{folder}",
            "Dir::State::lists": "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": f"{folder}/cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            # A folder of the user's own: apt's own account could not write there.
            "APT::Sandbox::User": "",
            "APT::Update::Error-Mode": "any",
            "Acquire::GzipIndexes": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "1",
        }
        lines = [f'{name} "{value}";' for name, value in settings.items()]
        text = "\n".join([*read_download_settings(folder), *lines])
        (folder / "apt.conf").write_text(f"{text}\n")

    def _failure(self, what: str, error: ProgramFailed) -> CannotRun | OSError:
        """What it means that a program failed, with the end of its own words.

        A full disk is an OSError, as where bindlab itself writes to it.
        """
        if any(FULL_DISK.search(line) for line in error.words):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        words = error.quote("E: ") or error.quote() or f"{error}."
        return CannotRun(f"Could not {what}.", f"{words}\n  {MIRROR_HINT}")


def find_mirror(folder: Path) -> str:
    """The first mirror of Debian in the machine's own sources; CannotRun where there is none."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    try:
        output = read([*command, "Origin: Debian", "Label: Debian"], folder)
    except ProgramFailed:
        output = ""
    addresses = output.split()
    if not addresses:
        raise CannotRun(
            "apt knows of no mirror of Debian on this machine.",
            f"sudo apt-get update finds one if its sources name one. {MIRROR_HINT}",
        )
    return addresses[0]


def read_download_settings(folder: Path) -> list[str]:
    """The machine's own settings for downloads, as apt.conf has them."""
    lines = read(["apt-config", "dump"], folder).splitlines()
    return [
        line
        for line in lines
        if line.startswith("Acquire::") and not line.startswith(FOREIGN_SETTINGS)
    ]
