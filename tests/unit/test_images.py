"""What goes into the images, what is said when one cannot be made, and how far it is shown."""

import fnmatch
import io
import json
import re
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from labs.engine.backends.docker.bootstrap import mmdebstrap_command
from labs.engine.backends.docker.build import Build, Materials, open_context
from labs.engine.backends.docker.client import APIClient
from labs.engine.backends.docker.images import AGENT_FILES, RECIPES, Recipe, agent_digest
from labs.engine.building import BuildOptions, choose_recipes
from labs.engine.demo import Holder, Refusal, explain
from labs.engine.errors import BindlabError, CannotRun, ExitStatus, UsageError
from labs.engine.progress import (
    ImageDone,
    ImagesPlanned,
    ImageStarted,
    InstructionStarted,
    OutputWritten,
    Progress,
)
from labs.engine.version import VERSION
from labs.engine.views.progress import MovingView, PlainView, Row
from tests.support import ROOT, run

ALL = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.folder)


def instructions(recipe: Recipe) -> list[str]:
    text = (ROOT / recipe.dockerfile).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def copied(recipe: Recipe) -> set[str]:
    """What the Dockerfile copies from its context."""
    lines = [line.split() for line in instructions(recipe) if line.startswith("COPY ")]
    return {word for line in lines if "--from=" not in line[1] for word in line[1:-1]}


# --- what goes in -------------------------------------------------------------------------


@ALL
def test_a_recipe_names_what_its_dockerfile_copies(recipe: Recipe) -> None:
    assert copied(recipe) - {"wheels*"} == set(recipe.sources)
    assert ("wheels*" in copied(recipe)) == recipe.takes_wheels


@ALL
def test_compose_may_send_what_a_dockerfile_copies(recipe: Recipe) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    admitted = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    for source in copied(recipe):
        assert any(fnmatch.fnmatch(name, source.split("/")[0]) for name in admitted), source


@ALL
def test_a_dockerfile_builds_with_every_builder_from_any_base(recipe: Recipe) -> None:
    text = (ROOT / recipe.dockerfile).read_text()
    assert "syntax=" not in text
    assert "--mount" not in text
    assert "<<" not in text
    lines = instructions(recipe)
    assert f"ARG BASE={recipe.base or 'debian:bookworm-slim'}" in lines
    assert {line.split(" AS ")[0] for line in lines if line.startswith("FROM ")} == {"FROM ${BASE}"}
    assert f"ARG VERSION={VERSION}" in lines
    assert lines[-1].startswith(("USER ", "CMD "))
    assert any(line.startswith("USER ") and "root" not in line for line in lines)
    assert f'bindlab.image="{recipe.folder}"' in text
    assert "bindlab.run" not in text


@ALL
def test_the_engine_is_sent_what_is_copied_and_no_more(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "some.whl").touch()
    with open_context(recipe, tmp_path) as file, tarfile.open(fileobj=file) as archive:
        members = archive.getmembers()
    names = {member.name for member in members}
    assert {recipe.dockerfile, *recipe.sources} <= names
    assert ("wheels/some.whl" in names) == recipe.takes_wheels
    for member in members:
        assert "__pycache__" not in member.name
        assert member.uid == member.gid == member.mtime == 0
        assert stat.S_IMODE(member.mode) & 0o444 == 0o444
    allowed = (recipe.dockerfile, *recipe.sources, "wheels")
    assert all(name.startswith(allowed) for name in names)


def test_the_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        return agent_digest(tmp_path, files)

    digests = {digest(a="xy"), digest(b="xy"), digest(a="x", b="y"), digest(a="x"), digest(a="")}
    assert len(digests) == 5
    assert digest(a="xy") in digests


def test_the_agent_in_the_image_is_all_that_it_imports() -> None:
    modules = {file.removesuffix(".py").replace("/", ".") for file in AGENT_FILES}
    for file in AGENT_FILES:
        for module in re.findall(
            r"^from (labs\S*) import", (ROOT / file).read_text(), re.MULTILINE
        ):
            assert module in modules, f"{file} imports {module}"


# --- what is said when an image cannot be made --------------------------------------------


def fail(*answers: dict[str, object], base: str = "debian:trial") -> BindlabError:
    build = Build(Recipe("base", "some/image"), Materials(base))
    with pytest.raises(BindlabError) as caught:
        for answer in answers:
            list(build._read(answer))  # type: ignore[arg-type]
    return caught.value


def test_a_failing_instruction_is_named_with_its_last_lines() -> None:
    error = fail(
        {"stream": "Step 3/9 : RUN   apt-get   install nothing"},
        {"stream": " ---> Running in b1cfc3e905da\n"},
        {"stream": "\x1b[91mE: Unable to locate package nothing\n\x1b[0m"},
        {"error": "The command '/bin/sh -c ...' returned a non-zero code: 100"},
    )
    assert error.status == ExitStatus.FAILED
    assert "some/image. Instruction 3 of 9 ended with status 100." in error.message
    assert "RUN apt-get install nothing" in error.message
    assert error.hint == "The last that it wrote:\n  E: Unable to locate package nothing"


def test_a_registry_that_does_not_answer_is_no_end() -> None:
    error = fail(
        {"stream": "Step 2/9 : FROM ${BASE}"},
        {"error": 'Get "https://registry/v2/": dial tcp: lookup registry: no such host'},
    )
    assert error.status == ExitStatus.CANNOT_RUN
    assert "Could not get debian:trial for some/image" in error.message
    assert "invoke image.build --bootstrap" in error.hint


@pytest.mark.parametrize("said", ["stream", "error"])
def test_a_full_disk_is_named(said: str) -> None:
    error = fail(
        {"stream": "Step 3/9 : RUN dd of=/x"},
        {said: "write error: No space left on device"},
        {"error": "returned a non-zero code: 1"},
    )
    assert error.status == ExitStatus.CANNOT_RUN
    assert "docker system df" in error.hint


class OnlyItsArchitecture(APIClient):
    """A client of an engine of which no more is asked than what it runs on."""

    def __init__(self) -> None:
        pass

    def version(self, api_version: bool = True) -> dict[str, str]:  # noqa: ARG002
        return {"Arch": "arm64"}


def test_without_mmdebstrap_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun) as caught:
        mmdebstrap_command(OnlyItsArchitecture(), "debian:bookworm-slim")
    assert caught.value.hint == "sudo apt-get install mmdebstrap"


def test_the_mirror_and_the_architecture_are_those_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mmdebstrap").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    client = OnlyItsArchitecture()
    command = mmdebstrap_command(client, "debian:trixie-slim", "http://mirror.test/debian")
    assert command[-3:] == ["trixie", "-", "http://mirror.test/debian"]
    assert mmdebstrap_command(client, "debian:trixie")[-1] == "trixie"
    assert "--architectures=arm64" in command
    with pytest.raises(CannotRun, match="does not say which Debian"):
        mmdebstrap_command(client, "alpine")


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="base, nginx, haproxy, gunicorn and workbench"):
        choose_recipes(BuildOptions(only="nonsense"))
    with pytest.raises(UsageError, match="--mirror"):
        choose_recipes(BuildOptions(mirror="http://mirror.test"))
    assert [recipe.folder for recipe in choose_recipes(BuildOptions("workbench"))] == ["workbench"]


def test_without_an_engine_the_command_says_so(tmp_path: Path) -> None:
    done = run("image.build", DOCKER_HOST=f"unix://{tmp_path}/none", DOCKER_CONFIG=str(tmp_path))
    assert done.status == ExitStatus.CANNOT_RUN
    assert f"No Docker engine answers at unix://{tmp_path}/none" in done.errors
    assert "Traceback" not in done.text


# --- how far it is ------------------------------------------------------------------------

BUILD: tuple[Progress, ...] = (
    ImagesPlanned(("debian", "base")),
    ImageStarted("debian"),
    ImageDone("debian", kept="is there already and is used as it is"),
    ImageStarted("base"),
    InstructionStarted("base", 1, 2, "FROM debian"),
    InstructionStarted("base", 2, 2, f"RUN {'x' * 200}"),
    OutputWritten("base", "Setting up python3-minimal"),
)


def test_without_a_terminal_each_instruction_is_a_line() -> None:
    stream = io.StringIO()
    view = PlainView(stream)
    for event in (*BUILD, ImageDone("base", 107_400_000)):
        view(event)
    kept, first, second, done = stream.getvalue().splitlines()
    assert kept == "debian: is there already and is used as it is"
    assert first == "base: 1/2 FROM debian"
    assert second.startswith("base: 2/2 RUN xxx")
    assert second.endswith("x...")
    assert re.fullmatch(r"base: done in \d+\.\d s, 107 MB", done)


def moving_view(encoding: str = "utf-8") -> MovingView:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    view = MovingView(Console(file=stream, width=60), stream)
    for event in BUILD:
        view(event)
    return view


def test_on_a_terminal_every_image_has_a_row_and_the_current_one_its_output() -> None:
    view = moving_view()
    kept, row, output = view.render().plain.splitlines()
    assert kept.startswith(" ✔ debian ")
    assert re.match(r" . base +0\.\d s  2/2 RUN xxx.*…$", row)
    assert output.strip() == "Setting up python3-minimal"
    assert max(map(len, (kept, row, output))) < 60
    view(ImageDone("base", 107_400_000))
    assert view.render().plain.splitlines()[1].endswith("s  107 MB")


def test_what_was_given_up_is_marked() -> None:
    view = moving_view("ascii")
    view.end()
    assert view.render().plain.splitlines()[1].startswith(" ! base ")


def test_the_clock_of_an_image_runs_while_it_is_made() -> None:
    row = Row("base")
    assert row.seconds(now=9.0) == 0.0
    row = row.after(ImageStarted("base"), now=10.0)
    assert row.seconds(now=12.5) == 2.5
    row = row.after(ImageDone("base", 1), now=13.0)
    assert row.seconds(now=99.0) == 3.0


# --- the demo of compose.yaml -------------------------------------------------------------


def test_the_demo_says_why_a_server_is_refused() -> None:
    alice = Holder("0.0.0.0", "LISTEN", 64001, 4711)
    refusal = Refusal(98, (alice, replace(alice, inode=4712)))
    opening, first, second, reason, patience = explain(refusal, 64002)
    assert opening == (
        "is refused: bind() to 0.0.0.0:8080 as uid 64002 gives EADDRINUSE (Address already in use)."
    )
    assert first == "tcp 0.0.0.0:8080  LISTEN  uid 64001  inode 4711"
    assert second.endswith("inode 4712")
    assert "these are of uid 64001, this one is of 64002" in reason
    assert "again every 2 s" in patience
    assert explain(refusal, 64002, again=True)[0].startswith("is still refused")


def test_the_filter_of_the_workbench_is_what_an_engine_reads() -> None:
    profile = json.loads((ROOT / "images/workbench/seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    (rule,) = profile["syscalls"]
    assert rule["action"] == "SCMP_ACT_ERRNO"
    assert rule["names"] == sorted(set(rule["names"]))
    assert not {"unshare", "setns", "mount", "clone"} & set(rule["names"])
