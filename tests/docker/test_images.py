"""The images on a real engine: what is in them, and what is said when there is none."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from labs.engine.backends.docker.bootstrap import bootstrap_image
from labs.engine.backends.docker.build import Materials, build_image
from labs.engine.backends.docker.client import APIClient, connected, find_image
from labs.engine.backends.docker.images import (
    BASE,
    DEBIAN,
    IMAGE_LABEL,
    RECIPES,
    WORKBENCH,
    Recipe,
    agent_digest,
    find_base,
    find_fitting,
)
from labs.engine.errors import CannotRun, EngineError, ExitStatus
from labs.engine.progress import ImageDone, InstructionStarted, OutputWritten, Progress
from labs.engine.version import VERSION
from tests.support import DEADLINE, ROOT, TIMEOUT, ended, environment, wait_until

pytestmark = pytest.mark.docker

TEST_LABEL = "bindlab.test"
BOTH = pytest.mark.parametrize("image", [BASE, WORKBENCH])

# Where what installs programs keeps what it needs no more.
LEFTOVERS = (
    *("/root", "/usr/share/man", "/var/cache/apt", "/var/cache/debconf", "/var/lib/apt/lists"),
    "/var/log",
)
LOGIN_FILES = r"! -name '.*'"  # those that every account begins with


@pytest.fixture
def client() -> Iterator[APIClient]:
    with connected() as client:
        yield client


@pytest.fixture
def mark(client: APIClient) -> Iterator[str]:
    """A word for the label and the tag of a test's own images, all of which go with it."""
    word = uuid.uuid4().hex[:12]
    try:
        yield word
    finally:
        for identity in client.images(quiet=True, filters={"label": f"{TEST_LABEL}={word}"}):
            client.remove_image(identity, force=True)


def docker(*arguments: str) -> str:
    """What the docker command writes."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return done.stdout


def look_inside(image: str, script: str) -> list[str]:
    """The lines that a shell script writes as root in a container of the image."""
    options = ["--rm", "--network=none", "--user=root", "--entrypoint=sh"]
    return docker("run", *options, image, "-c", script).splitlines()


def write_recipe(folder: Path, mark: str, *lines: str) -> Recipe:
    """A recipe of a test's own."""
    path = folder / "images" / "trial"
    path.mkdir(parents=True)
    text = ["ARG BASE", "FROM ${BASE}", f"LABEL {TEST_LABEL}={mark}", *lines]
    (path / "Dockerfile").write_text("\n".join(text))
    return Recipe("trial", f"bindlab-test/{mark}", root=folder)


def build(client: APIClient, recipe: Recipe, base: str = BASE) -> Sequence[Progress]:
    return [*build_image(client, recipe, Materials(base))]


# --- what is in them ----------------------------------------------------------------------


@BOTH
def test_an_image_says_what_it_is(client: APIClient, image: str) -> None:
    (facts,) = json.loads(docker("image", "inspect", image))
    labels = facts["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[f"{prefix}title"] == image.replace("/", " ")
    assert labels[f"{prefix}version"] == VERSION
    assert labels[f"{prefix}licenses"] == "MIT"
    assert labels[f"{prefix}description"]
    assert labels[IMAGE_LABEL] == image.removeprefix("bindlab/")
    assert not [name for name in labels if name.startswith("bindlab.run")]


@BOTH
def test_nothing_is_in_an_image_that_is_not_used(image: str) -> None:
    found = f"find {' '.join(LEFTOVERS)} -type f {LOGIN_FILES} 2>/dev/null"
    assert look_inside(image, f"{found}; true") == []
    assert look_inside(image, "find / -xdev -name '*.whl' -o -name '*.deb' -o -name pip") == []
    tools = "gcc cc make pip pip3 curl wget git"
    assert look_inside(image, f"for tool in {tools}; do command -v $tool; done; true") == []


@BOTH
def test_an_image_runs_as_somebody_who_owns_nothing_of_it(image: str) -> None:
    uid = docker("run", "--rm", "--network=none", image, "id", "-u").strip()
    assert uid != "0"
    writable = f"find /opt /etc /usr -xdev ! -type l \\( -user {uid} -o -perm /022 \\)"
    assert look_inside(image, writable) == []
    assert look_inside(image, "find /opt -type f ! -perm -444") == []


def test_the_base_has_all_that_the_agent_imports_compiled() -> None:
    script = (
        "import sys; sys.path.insert(0, '/opt/bindlab');"
        "import labs.engine.backends.docker.relay, labs.engine.warm_parent, os;"
        "print(*(name for name, module in sys.modules.items() if getattr(module, '__cached__', 0)"
        " and not os.path.exists(module.__cached__)))"
    )
    run = ["run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", BASE]
    assert docker(*run, "python3", "-I", "-S", "-c", script).split() == []


def test_in_the_workbench_two_programs_may_do_more_than_who_runs_them() -> None:
    assert look_inside(WORKBENCH, "find / -xdev -type f -perm /6000") == []
    found = look_inside(WORKBENCH, "getcap -r /usr /opt /home /etc 2>/dev/null")
    programs = {"/usr/bin/newgidmap cap_setgid=ep", "/usr/bin/newuidmap cap_setuid=ep"}
    assert {*found} == programs
    assert look_inside(WORKBENCH, "cat /etc/subuid /etc/subgid") == ["trainee:100000:65536"] * 2


# --- whether they fit ---------------------------------------------------------------------


def test_the_base_fits_its_source(client: APIClient) -> None:
    image = find_image(client, BASE)
    assert image is not None
    assert find_base(client) == image.identity


def test_an_image_of_another_version_is_refused(
    client: APIClient, mark: str, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, mark, "ARG AGENT", "LABEL bindlab.agent=${AGENT}")
    build(client, recipe)
    assert find_fitting(client, recipe.tag)
    stale = write_recipe(tmp_path / "stale", mark, "LABEL bindlab.agent=0123")
    build(client, stale)
    with pytest.raises(CannotRun, match="was built from another version") as caught:
        find_fitting(client, stale.tag)
    assert caught.value.hint == "invoke image.build"


def test_a_missing_image_is_named(client: APIClient, mark: str) -> None:
    with pytest.raises(CannotRun, match=f"There is no image bindlab-test/{mark}") as caught:
        find_fitting(client, f"bindlab-test/{mark}")
    assert caught.value.hint == "invoke image.build"


# --- building -----------------------------------------------------------------------------


def test_the_base_builds_from_its_dockerfile(client: APIClient, mark: str) -> None:
    recipe = replace(RECIPES[0], tag=f"bindlab-test/{mark}")
    try:
        events = build(client, recipe, DEBIAN)
        image = find_image(client, recipe.tag)
        assert image is not None
        assert image.labels["bindlab.agent"] == agent_digest()
        assert events[-1] == ImageDone(recipe.tag, image.size)
        numbers = [event.number for event in events if isinstance(event, InstructionStarted)]
        assert numbers == [*range(1, len(numbers) + 1)]
    finally:
        docker("image", "rm", recipe.tag)


def test_what_a_new_build_replaces_is_gone(client: APIClient, mark: str, tmp_path: Path) -> None:
    first = write_recipe(tmp_path / "first", mark, "LABEL number=1")
    build(client, first)
    old = find_image(client, first.tag)
    build(client, write_recipe(tmp_path / "second", mark, "LABEL number=2"))
    new = find_image(client, first.tag)
    assert old and new and old.identity != new.identity
    assert find_image(client, old.identity) is None


def test_what_is_replaced_and_has_another_name_stays(
    client: APIClient, mark: str, tmp_path: Path
) -> None:
    first = write_recipe(tmp_path / "first", mark, "LABEL number=1")
    build(client, first)
    old = find_image(client, first.tag)
    assert old is not None
    client.tag(old.identity, f"{first.tag}-kept")
    build(client, write_recipe(tmp_path / "second", mark, "LABEL number=2"))
    assert find_image(client, old.identity) is not None


def test_a_failing_instruction_ends_the_build_and_leaves_no_container(
    client: APIClient, mark: str, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, mark, "USER root", "RUN echo no such luck; exit 7")
    with pytest.raises(EngineError) as caught:
        build(client, recipe)
    assert "Instruction 5 of 5 ended with status 7." in caught.value.message
    assert "no such luck" in caught.value.hint
    assert find_containers(mark) == []


def test_a_base_that_no_registry_gives_is_no_fault_of_the_build(
    client: APIClient, mark: str, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, mark)
    with pytest.raises(CannotRun, match="Could not get localhost:9/none") as caught:
        build(client, recipe, "localhost:9/none")
    assert "--bootstrap" in caught.value.hint


def find_containers(mark: str) -> list[str]:
    filters = ["--filter", f"label={TEST_LABEL}={mark}"]
    return docker("ps", "--all", "--quiet", *filters).split()


BUILD_COMMAND = """
import sys
from pathlib import Path
from labs.engine.command import exit_on_signals, exit_statuses
exit_on_signals()
from labs.engine.backends.docker.build import Materials, build_image
from labs.engine.backends.docker.client import connected
from labs.engine.backends.docker.images import BASE, Recipe
recipe = Recipe("trial", sys.argv[1], root=Path(sys.argv[2]))
with exit_statuses(), connected() as client:
    for event in build_image(client, recipe, Materials(BASE)):
        print(event, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_interrupted_leaves_no_container(
    client: APIClient, mark: str, tmp_path: Path, number: signal.Signals
) -> None:
    recipe = write_recipe(tmp_path, mark, "RUN sleep 1000")
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD_COMMAND, recipe.tag, str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with ended(process):
        wait_until(lambda: bool(find_containers(mark)), "the build's container")
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE)
        expected = ExitStatus.INTERRUPTED if number == signal.SIGINT else -number
        assert process.returncode == expected
        assert errors == b""
    wait_until(lambda: not find_containers(mark), "the end of the build's container")


# --- bootstrapping ------------------------------------------------------------------------


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in mmdebstrap's place, which makes a tiny tar; a test may write another."""
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'I: making it' >&2\nexec tar -c -C {tmp_path} bin\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


@pytest.fixture
def name(mark: str) -> Iterator[str]:
    """The name of an image of Debian of a test's own."""
    name = f"bindlab-test/{mark}:bookworm-slim"
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


def test_an_image_from_packages_is_imported_and_says_so(
    client: APIClient, name: str, stand_in: Path
) -> None:
    events = [*bootstrap_image(client, name)]
    first = find_image(client, name)
    assert first is not None
    assert first.labels[IMAGE_LABEL] == "bootstrap"
    assert OutputWritten(name, "I: making it") in events
    assert events[-1] == ImageDone(name, first.size)

    stand_in.write_text(stand_in.read_text() + "# another\n")
    [*bootstrap_image(client, name)]
    second = find_image(client, name)
    assert second is not None
    assert second.identity != first.identity
    assert find_image(client, first.identity) is None


def test_an_image_of_somebody_elses_is_never_replaced(
    client: APIClient, name: str, stand_in: Path
) -> None:
    repository, _, tag = name.partition(":")
    client.tag(BASE, repository, tag)
    before = find_image(client, name)
    assert before is not None
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    assert [*bootstrap_image(client, name)][-1] == ImageDone(
        name, before.size, "is there already and is used as it is"
    )
    assert find_image(client, name) == before


def test_what_mmdebstrap_said_last_is_shown(client: APIClient, name: str, stand_in: Path) -> None:
    stand_in.write_text("#!/bin/sh\necho 'E: no such mirror' >&2\nexit 25\n")
    with pytest.raises(EngineError, match="mmdebstrap ended with status 25") as caught:
        [*bootstrap_image(client, name)]
    assert "E: no such mirror" in caught.value.hint
    assert find_image(client, name) is None


def test_what_is_no_archive_is_not_imported(client: APIClient, name: str, stand_in: Path) -> None:
    stand_in.write_text("#!/bin/sh\nhead -c 2048 /dev/urandom\n")
    with pytest.raises(EngineError, match="Could not import"):
        [*bootstrap_image(client, name)]
    assert find_image(client, name) is None
