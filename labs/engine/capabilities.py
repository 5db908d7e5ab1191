"""The names of capabilities(7), and masks of them."""

from collections.abc import Iterable

# From bit 0 on, in the order of include/uapi/linux/capability.h.
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID"),
    *("CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE"),
    *("CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW"),
    *("CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT"),
    *("CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE"),
    *("CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE"),
    *("CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE"),
    *("CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ"),
    *("CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)


def capability_mask(names: Iterable[str]) -> int:
    """The bit mask of capabilities(7) by name; ValueError for a name that is none."""
    mask = 0
    for name in names:
        if name not in CAPABILITIES:
            raise ValueError(f"There is no capability {name}.")
        mask |= 1 << CAPABILITIES.index(name)
    return mask


def capability_names(mask: int) -> tuple[str, ...]:
    """The names of the capabilities in a bit mask; a bit that has none goes by its number."""
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return tuple(CAPABILITIES[bit] if bit < len(CAPABILITIES) else f"{bit}" for bit in bits)
