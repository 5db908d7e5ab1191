"""The catalogue against the suites as they are today."""

from pathlib import Path

import pytest

from labs.engine.kernels.apt import Suite
from labs.engine.kernels.catalogue import KNOWN
from labs.engine.kernels.fetch import find_packages
from labs.engine.kernels.libc import PACKAGE as LIBC

pytestmark = [pytest.mark.kernels, pytest.mark.alike]


@pytest.mark.parametrize("name", sorted({known.suite for known in KNOWN}))
def test_a_suite_has_the_kernels_that_the_catalogue_says(name: str, tmp_path: Path) -> None:
    suite = Suite(name, tmp_path)
    suite.update()
    for known in KNOWN:
        if known.suite == name:
            packages = find_packages(suite, known)
            assert packages[0].version.startswith(known.version)
            # An image alone is no kernel: its modules are in it, or in a package of their own.
            assert sum(package.size for package in packages) > 20e6
    assert suite.find(LIBC).size > 1e6
