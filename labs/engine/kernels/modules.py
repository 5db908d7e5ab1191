"""Keeps of a kernel's modules those that labs and machines need, and what those need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from labs.engine.kernels.dependencies import read_dependencies
from labs.engine.kernels.kernel import Machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Beginnings of paths, relative to the folder lib/modules/RELEASE.
NETWORKING = (
    "kernel/net/",
    "kernel/drivers/net/bonding/",
    "kernel/drivers/net/dummy.",
    "kernel/drivers/net/ipvlan/",
    "kernel/drivers/net/macvlan.",
    "kernel/drivers/net/tun.",
    "kernel/drivers/net/veth.",
    "kernel/drivers/net/vrf.",
    "kernel/fs/overlayfs/",
)
VIRTUAL_MACHINE = (
    "kernel/drivers/block/loop.",
    "kernel/drivers/block/virtio_blk.",
    "kernel/drivers/char/hw_random/virtio-rng.",
    "kernel/drivers/char/virtio_console.",
    "kernel/drivers/net/virtio_net.",
    "kernel/drivers/scsi/sd_mod.",
    "kernel/drivers/scsi/virtio_scsi.",
    "kernel/drivers/virtio/",
    "kernel/fs/9p/",
    "kernel/fs/fuse/",
)
WANTED = {Machine.UML: NETWORKING, Machine.QEMU: NETWORKING + VIRTUAL_MACHINE}


def prune_modules(folder: Path, machine: Machine) -> None:
    """Remove the modules that nobody needs from a folder that has a modules.dep.

    That and the other indexes stay as they are: they name what is gone as well.
    """
    depends = read_dependencies((folder / "modules.dep").read_text())
    wanted = [path for path in depends if path.startswith(WANTED[machine])]
    for path in depends.keys() - close(wanted, depends):
        (folder / path).unlink()
    for parent, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(parent):
            os.rmdir(parent)


def close(paths: Iterable[str], depends: Mapping[str, Iterable[str]]) -> set[str]:
    """These modules and all that they need."""
    reached: set[str] = set()
    left = list(paths)
    while left:
        path = left.pop()
        if path not in reached:
            reached.add(path)
            left.extend(depends[path])
    return reached
