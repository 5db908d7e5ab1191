#!/usr/bin/env python3
"""Gives eth0 a second address, or takes it away: address.py add ADDRESS, address.py remove.

By ioctl(2), netdevice(7): not every machine has the program ip.
"""

import fcntl
import socket
import struct
import sys

ALIAS = b"eth0:1"
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C


def change(control: socket.socket, request: int, address: str) -> None:
    family, port = socket.AF_INET, 0
    content = struct.pack("=16sHH4s16x", ALIAS, family, port, socket.inet_aton(address))
    fcntl.ioctl(control, request, content)


def main() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as control:
        if sys.argv[1] == "add":
            change(control, SIOCSIFADDR, sys.argv[2])
            change(control, SIOCSIFNETMASK, "255.255.255.255")
        else:
            flags = struct.pack("=16sh22x", ALIAS, 0)  # an alias without IFF_UP goes
            fcntl.ioctl(control, SIOCSIFFLAGS, flags)


main()
