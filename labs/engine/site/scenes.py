"""Which moment of each lab its kept picture shows: the step that says most to who sees no other."""

from __future__ import annotations

# The number of a step, by the lab's name.
SCENES = {
    "unique": 2,
    "fork": 3,
    "herd": 3,
    "reuseport": 9,
    "balance": 1,
    "euid": 4,
    "netns": 1,
    "userns": 2,
    "containers": 4,
    "reuseaddr": 3,
    "timewait": 3,
    "udp": 4,
    "dualstack": 2,
    "device": 11,
    "passing": 5,
    "restart": 2,
    "crash": 2,
    "scale": 3,
    "nginx": 8,
    "haproxy": 2,
    "gunicorn": 8,
}
