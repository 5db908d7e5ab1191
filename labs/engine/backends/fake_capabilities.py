"""Capabilities of the fake backend's processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labs.engine.capabilities import capability_mask

if TYPE_CHECKING:
    from labs.engine.model import (
        Credentials,
    )

FILE_CAPABILITIES = capability_mask(  # CAP_FS_SET of the kernel: those that setfsuid() takes
    [
        *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID"),
        *("CAP_LINUX_IMMUTABLE", "CAP_MKNOD", "CAP_MAC_OVERRIDE"),
    ]
)


@dataclass(frozen=True)
class Capabilities:
    """A process's capabilities as masks, by the rules of capabilities(7)."""

    bounding: int
    permitted: int
    effective: int
    ambient: int

    def after_change(self, old: Credentials, new: Credentials) -> Capabilities:
        """What setuid() and its like leave (cap_emulate_setxid())."""
        permitted, effective, ambient = self.permitted, self.effective, self.ambient
        was_root = 0 in (old.real, old.effective, old.saved)
        if was_root and 0 not in (new.real, new.effective, new.saved):
            permitted = effective = ambient = 0
        if old.effective == 0 != new.effective:
            effective = 0
        if old.effective != 0 == new.effective:
            effective = permitted
        return Capabilities(self.bounding, permitted, effective, ambient)

    def after_setfsuid(self, old: int, new: int) -> Capabilities:
        """What setfsuid() leaves (cap_task_fix_setuid())."""
        effective = self.effective
        if old == 0 != new:
            effective &= ~FILE_CAPABILITIES
        if old != 0 == new:
            effective |= self.permitted & FILE_CAPABILITIES
        return replace(self, effective=effective)

    def after_exec(self, uids: Credentials) -> Capabilities:
        """What a program gets that has none of its own (cap_bprm_creds_from_file())."""
        is_root = 0 in (uids.real, uids.effective)
        permitted = self.bounding if is_root else self.ambient
        effective = permitted if uids.effective == 0 else self.ambient
        return replace(self, permitted=permitted, effective=effective)
