"""lab.verdicts: claims and what came of them, from records of a kernel."""

import json
from pathlib import Path
from typing import Any

import pytest

from labs.engine.record import SCHEMA
from tests.support import run

SECONDS = 180.0  # for all labs, which take half a minute where nothing is beside them

pytestmark = [pytest.mark.namespaces, pytest.mark.alike]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("records") / "record.json"
    assert run("lab.euid", "--json", str(path)).status == 0
    return json.loads(path.read_text())


def shown(folder: Path, *documents: Any) -> tuple[int, str]:
    names = []
    for number, content in enumerate(documents):
        names.append(str(folder / f"{number}.json"))
        Path(names[-1]).write_text(json.dumps(content))
    done = run("lab.verdicts", "--records", ",".join(names))
    return done.status, " ".join((done.output + done.errors).split())


def altered(document: Any, **fields: Any) -> Any:
    (found,) = document["runs"]
    return {**document, "runs": [found | fields]}


def test_without_records_the_labs_are_run() -> None:
    done = run("lab.verdicts", seconds=SECONDS)
    assert done.status == 0
    assert "euid  Processes that share a port" in done.output
    assert "holds if: the EUID was" in " ".join(done.output.split())
    assert "containers" not in done.output  # it puts no claim to the test


def test_what_is_said_comes_from_the_record(recorded: Any, tmp_path: Path) -> None:
    conclusion = {"finding": "does not hold", "fact": "it was measured"}
    document = altered(recorded, conclusion=conclusion, kernel="9.9", claim="Said so.")
    status, text = shown(tmp_path, document)
    assert (status, text) == (0, "euid Said so. does not hold: it was measured Linux 9.9")


def test_kernels_of_one_mind_are_named_together(recorded: Any, tmp_path: Path) -> None:
    conclusion = {"finding": "holds", "fact": "here"}
    documents = [
        altered(recorded, kernel="9.8", conclusion=conclusion),
        altered(recorded, kernel="9.9", machine="uml", conclusion=conclusion),
        altered(recorded, kernel="9.7", conclusion=conclusion | {"finding": "does not hold"}),
    ]
    status, text = shown(tmp_path, *documents)
    assert status == 0
    assert text.endswith("holds: here Linux 9.8, 9.9 (uml) does not hold: here Linux 9.7")
    assert text.count("Processes that share a port") == 1


def test_a_matrix_has_records_too(recorded: Any, tmp_path: Path) -> None:
    (found,) = recorded["runs"]
    cells = [{"kernel": "host", "record": found}, {"kernel": "6.1", "record": None}]
    status, text = shown(tmp_path, {"schema": SCHEMA, "kernels": [], "runs": cells})
    assert status == 0
    assert "holds if" in text


@pytest.mark.parametrize(
    ("status", "reason"),
    [(3, "a step went otherwise"), (70, "was not carried through"), (125, "cannot run")],
)
def test_a_claim_that_was_not_shown_is_no_pass(
    status: int, reason: str, recorded: Any, tmp_path: Path
) -> None:
    document = altered(recorded, conclusion=None, status=status)
    found, text = shown(tmp_path, recorded, document)
    assert found == status
    assert reason in text


@pytest.mark.parametrize(
    "content",
    [[], {}, {"schema": SCHEMA}, {"schema": 1, "runs": []}, {"schema": SCHEMA, "runs": [{}]}],
    ids=repr,
)
def test_what_holds_no_records(content: Any, tmp_path: Path) -> None:
    status, text = shown(tmp_path, content)
    assert status == 2
    assert "holds no records" in text
    assert "Traceback" not in text


def test_a_conclusion_that_is_none(recorded: Any, tmp_path: Path) -> None:
    status, text = shown(tmp_path, altered(recorded, conclusion={"finding": "maybe", "fact": "?"}))
    assert status == 2
    assert "maybe" in text


@pytest.mark.parametrize("status", [2, 130, 1, True, None])
def test_a_status_that_no_run_has(status: Any, recorded: Any, tmp_path: Path) -> None:
    found, text = shown(tmp_path, altered(recorded, conclusion=None, status=status))
    assert found == 2
    assert "holds no records" in text


def test_records_without_a_claim(recorded: Any, tmp_path: Path) -> None:
    for document in (altered(recorded, claim=""), altered(recorded, backend="plan")):
        assert shown(tmp_path, document)[0] == 125


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run("lab.verdicts", "--records", str(tmp_path / "none"))
    assert done.status == 2
    assert "No such file" in done.errors
