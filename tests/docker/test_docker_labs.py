"""Every lab in containers, by the real command; two at once; and where the engine is looked for."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from labs.engine.backends.docker.client import connected
from labs.engine.backends.docker.labels import CLIENT, describe_process
from labs.engine.catalogue import find_labs
from labs.engine.errors import ExitStatus
from labs.engine.model import ENGINE
from tests.docker.traces import find_things, seeds
from tests.endings import PROMPT
from tests.support import (
    INVOKE,
    ROOT,
    TIMEOUT,
    Finished,
    ended,
    environment,
    new_token,
    open_terminal,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

    from labs.engine.backends.docker.client import APIClient

pytestmark = pytest.mark.docker

DOCKER = ("--backend", "docker")
# The steps that take an engine with two maps of users.
ANOTHER_MAP: dict[str, list[int]] = {"containers": [5], "userns": [2, 3, 4, 5, *range(7, 15)]}
# Those that take CAP_SYS_ADMIN, which no container is given.
ADMIN = {"netns": [5, 6, 7, 8, 9]}
SECONDS_FOR_A_LAB = 20


def take_seed(engine: APIClient) -> tuple[str, str]:
    return "--seed", str(seeds.take(engine))


def check_refusal(done: Finished, status: int, *words: str) -> None:
    """One message with these words and a hint, without a traceback."""
    assert done.status == status, done
    assert done.errors.startswith("bindlab: ")
    assert "Traceback" not in done.text
    for word in words:
        assert word in done.errors


# --- labs ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document() -> Any:
    """The record of all labs."""
    with connected() as engine:
        seconds = SECONDS_FOR_A_LAB * len(find_labs())
        done = run("lab.all", *DOCKER, *take_seed(engine), "--json", "-", seconds=seconds)
    assert done.status == ExitStatus.PASSED, done
    return json.loads(done.output)


def test_every_lab_passes(document: Any, engine: APIClient) -> None:
    has_maps = "name=userns" in engine.info()["SecurityOptions"]
    skipped = ADMIN if has_maps else ADMIN | ANOTHER_MAP
    assert [record["lab"] for record in document["runs"]] == [lab.name for lab in find_labs()]
    for record in document["runs"]:
        verdicts = {step["number"]: step["verdict"] for step in record["steps"]}
        expected = skipped.get(record["lab"], [])
        assert [number for number, word in verdicts.items() if word == "skipped"] == expected
        assert {word for number, word in verdicts.items() if number not in expected} == {"passed"}
        assert record["backend"] == "docker"


def test_a_step_that_is_skipped_says_why(document: Any) -> None:
    for record in document["runs"]:
        for step in record["steps"]:
            if step["verdict"] == "skipped":
                reason = step["outcome"]["reason"]
                assert "maps the users of all containers alike" in reason or (
                    "A container is not given CAP_SYS_ADMIN" in reason
                )


def test_every_step_in_which_a_process_makes_a_call_has_evidence(document: Any) -> None:
    steps = [step for record in document["runs"] for step in record["steps"]]
    with_calls = [
        step for step in steps if any(call["process"] != ENGINE for call in step["calls"])
    ]
    assert len(with_calls) > len(steps) / 2
    assert all(step["evidence"] for step in with_calls)


def test_the_record_is_as_published(document: Any) -> None:
    schema = json.loads((ROOT / "docs" / "record.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_record_is_that_of_the_other_backend_but_for_what_differs(document: Any) -> None:
    """The same script, the same kernel: the same calls, and the same answers."""
    (record,) = [record for record in document["runs"] if record["lab"] == "euid"]
    done = run("lab.euid", "--seed", str(record["seed"]), "--json", "-")
    if done.status == ExitStatus.CANNOT_RUN:
        pytest.skip(done.errors)
    (other,) = json.loads(done.output)["runs"]

    def outline(found: Any) -> list[Any]:
        return [
            [
                step["title"],
                step["verdict"],
                [(call["process"], call["uid"], call["errno"]) for call in step["calls"]],
            ]
            for step in found["steps"]
            if step["expected"]["kind"] != "measured"
        ]

    assert outline(record) == outline(other)


# --- two at once --------------------------------------------------------------------------


def test_two_runs_of_different_seeds_pass_at_once(engine: APIClient) -> None:
    commands = [("lab.euid", *DOCKER, *take_seed(engine)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda command: run(*command), commands))
    assert [one.status for one in done] == [ExitStatus.PASSED] * 2, done


def test_of_two_runs_with_the_same_addresses_the_second_names_the_first(
    engine: APIClient,
) -> None:
    seed = take_seed(engine)
    with open_terminal("lab.euid", *DOCKER, *seed, "--pause", token=new_token()) as terminal:
        terminal.read_until(PROMPT)
        client = describe_process(terminal.process.pid)
        before = find_things(engine, CLIENT, client)
        (network,) = [thing.split()[1] for thing in before if thing.startswith("network ")]
        second, done = run_as_client(*seed)
        assert f"The network {network} has 10." in done.text
        assert "--seed N takes others" in done.text
        assert done.status == ExitStatus.CANNOT_RUN
        assert "Traceback" not in done.text
        assert find_things(engine, CLIENT, second) == []
        assert set(find_things(engine, CLIENT, client)) >= set(before)
        terminal.type("\x03")
        terminal.wait()


def run_as_client(*arguments: str) -> tuple[str, Finished]:
    """Run the command to its end; its process, as labels describe it, and how it ended."""
    process = subprocess.Popen(
        [*INVOKE, "lab.euid", *DOCKER, *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with ended(process):
        described = describe_process(process.pid)
        output, errors = process.communicate(timeout=TIMEOUT)
    return described, Finished(process.returncode, output.decode(), errors.decode())


# --- where the engine is ------------------------------------------------------------------


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contexts of a test's own: `here` names the machine's engine, `nowhere` none."""
    show = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(show, capture_output=True, text=True, check=True)
    here = os.environ.get("DOCKER_HOST") or done.stdout.strip()
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    # The SDK looks for contexts beside this file, and elsewhere where there is none.
    (tmp_path / "config.json").write_text("{}")
    for name, host in {"here": here, "nowhere": f"unix://{tmp_path}/none"}.items():
        docker("context", "create", name, "--docker", f"host={host}")


def docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], capture_output=True, check=True)


@pytest.mark.usefixtures("contexts")
def test_the_context_that_the_environment_names(engine: APIClient) -> None:
    done = run("lab.euid", *DOCKER, *take_seed(engine), DOCKER_CONTEXT="here")
    assert done.status == ExitStatus.PASSED, done
    done = run("lab.euid", *DOCKER, DOCKER_CONTEXT="nowhere")
    check_refusal(done, ExitStatus.CANNOT_RUN, "No Docker engine answers", "systemctl start docker")


@pytest.mark.usefixtures("contexts")
def test_the_context_that_is_in_use(engine: APIClient) -> None:
    docker("context", "use", "nowhere")
    done = run("lab.euid", *DOCKER)
    check_refusal(done, ExitStatus.CANNOT_RUN, "No Docker engine answers")
    docker("context", "use", "here")
    done = run("lab.euid", *DOCKER, *take_seed(engine))
    assert done.status == ExitStatus.PASSED, done


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize("command", [("lab.euid", *DOCKER), ("clean",)])
def test_an_unknown_context(command: tuple[str, ...]) -> None:
    done = run(*command, DOCKER_CONTEXT="never-made")
    check_refusal(done, ExitStatus.CANNOT_RUN, "never-made", "docker context ls")


@pytest.mark.usefixtures("contexts")
def test_a_context_gives_way_to_docker_host(tmp_path: Path) -> None:
    host = f"unix://{tmp_path}/another"
    done = run("lab.euid", *DOCKER, DOCKER_CONTEXT="here", DOCKER_HOST=host)
    check_refusal(done, ExitStatus.CANNOT_RUN, f"No Docker engine answers at {host}")


def test_an_unknown_backend() -> None:
    done = run("lab.euid", "--backend", "bogus")
    check_refusal(done, ExitStatus.USAGE, "no backend bogus", "namespaces", "docker")
    assert done.output == ""
