"""What a playground's hosts have besides the machine's files: tools, names, and a shell's settings.

All of it is in the hosts' own memory, below /run: the machine's files are read-only there, and
those of bindlab may be out of reach of a lab's users.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from labs.engine.errors import EngineError
from labs.engine.layout import ACCOUNTS
from labs.engine.play.entrance import start_inside
from labs.engine.play.ground import Person
from labs.engine.play.prompt import make_prompt
from labs.engine.system import ALL_CAPABILITIES, MS_BIND, mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labs.engine.play.ground import Ground

ENGINE = Path(__file__).parents[1]
FOLDER = "/run/bindlab"
TOOLS = f"{FOLDER}/bin"
LIBRARY = f"{FOLDER}/lib"
RCFILE = f"{FOLDER}/bashrc"
BASHRC = """\
PS1=$BINDLAB_PROMPT
unset PROMPT_COMMAND HISTFILE
bind 'set enable-bracketed-paste off' 2>/dev/null
"""
NOBODY = 65_534
ROOT = Person("root", 0, ALL_CAPABILITIES)

# Programs that one reads, with what they import beside them; and modules that others need.
PROGRAMS = {"server": "server", "client": "client"}
BESIDE = ("calls", "unusual")
PACKAGE = "from labs.engine.play.tools"
STARTED = {"as": "as_user", "evidence": "evidence"}
MODULES = ("system.py", *(f"play/tools/{name}.py" for name in ("as_user", "channel", "evidence")))
START = """\
#!{python} -IS
import sys

sys.path.insert(0, "{library}")
from labs.engine.play.tools.{module} import main

main()
"""


def furnish(ground: Ground) -> None:
    """Furnish every host; raises EngineError."""
    plain = next(user for user in ground.users if user.uid)
    python = find_python(ground, plain)
    contents = dict(list_files(ground, python))
    for place in ground.hosts:
        if start_inside(place, ROOT, lambda: write_files(contents)).wait():
            raise EngineError(f"Could not put the tools on the host {place.name}.")


def find_python(ground: Ground, user: Person) -> str:
    """An interpreter that a user of the playground can run; the machine's own without any."""
    own = os.path.realpath(sys.executable)
    for path in dict.fromkeys((own, "/usr/bin/python3", "/usr/local/bin/python3")):

        def try_it(path: str = path) -> NoReturn:
            os.execve(path, [path, "-IS", "-c", "import socket, argparse"], {})

        with contextlib.suppress(Exception):
            if start_inside(ground.hosts[0], user, try_it).wait() == 0:
                return path
    return "/usr/bin/python3"


def list_files(ground: Ground, python: str) -> Iterator[tuple[str, str]]:
    """Paths and contents; those in the folder of tools can be executed, but for modules."""
    for name, module in PROGRAMS.items():
        # As -I and -S, but that it finds what is beside it; and it leaves no __pycache__ there.
        yield f"{TOOLS}/{name}", f"#!{python} -EsSB\n{read_tool(module)}"
    for module in BESIDE:
        yield f"{TOOLS}/{module}.py", read_tool(module)
    for name, module in STARTED.items():
        start = START.format(python=python, library=LIBRARY, module=module)
        yield f"{TOOLS}/{name}", start
    for folder in ("labs", "labs/engine", "labs/engine/play", "labs/engine/play/tools"):
        yield f"{LIBRARY}/{folder}/__init__.py", ""
    for path in MODULES:
        text = ENGINE.joinpath(path).read_text(encoding="utf-8")
        yield f"{LIBRARY}/labs/engine/{path}", text
    yield RCFILE, BASHRC
    yield f"{FOLDER}/users.json", json.dumps(known_users(ground))
    yield from list_names(ground)


def read_tool(module: str) -> str:
    """A tool's text as it is read on a host, where what it imports is beside it."""
    text = ENGINE.joinpath(f"play/tools/{module}.py").read_text(encoding="utf-8")
    return text.replace(f"{PACKAGE} import ", "import ").replace(f"{PACKAGE}.", "from ")


def known_users(ground: Ground) -> Mapping[str, object]:
    """What the tool `as` has to know of each user."""
    return {
        user.name: {
            "uid": user.uid,
            "capabilities": user.capabilities,
            "prompt": make_prompt(ground, user, "HOST"),
        }
        for user in ground.users
    }


def list_names(ground: Ground) -> Iterator[tuple[str, str]]:
    """The names of users and hosts, in the form of the files of /etc that have them."""
    uids = ACCOUNTS | {user.name: user.uid for user in ground.users} | {"nobody": NOBODY}
    passwd = (f"{name}:x:{uid}:{uid}::/tmp:/bin/sh\n" for name, uid in uids.items())
    group = (f"{name}:x:{uid}:\n" for name, uid in uids.items())
    hosts = ["127.0.0.1 localhost\n", "::1 localhost\n"]
    hosts += [f"{place.ipv4} {place.name}\n" for place in ground.hosts]
    hosts += [f"{place.ipv6} {place.name}\n" for place in ground.hosts]
    yield f"{FOLDER}/etc/passwd", "".join(passwd)
    yield f"{FOLDER}/etc/group", "".join(group)
    yield f"{FOLDER}/etc/hosts", "".join(hosts)


def write_files(contents: Mapping[str, str]) -> NoReturn:
    """Write all on this host, and put its names where programs look for them; never returns."""
    os.umask(0o022)
    for path, text in contents.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if path.startswith(TOOLS) and not path.endswith(".py"):
            os.chmod(path, 0o755)  # noqa: S103
    for name in ("passwd", "group", "hosts"):
        if os.path.exists(f"/etc/{name}"):
            source, target = f"{FOLDER}/etc/{name}".encode(), f"/etc/{name}".encode()
            mount(source, target, None, MS_BIND)
    os._exit(0)
