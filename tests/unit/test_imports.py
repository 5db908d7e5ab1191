"""The directions of dependence: labs, backends and views know the model and not each other."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = "labs.engine"

# Each library lives behind one adapter.
ADAPTERS = {
    "docker": {"labs.engine.backends.docker.client"},
    "pyroute2": {"labs.engine.backends.namespaces.network"},
    "rich": {
        f"labs.engine.views.{view}"
        for view in (
            *("classroom", "content", "exercise", "grades", "matrix", "port", "progress"),
            *("pane", "picture", "question", "terminal", "verdicts"),
        )
    },
    "textual": {
        f"labs.engine.learn.{part}"
        for part in (
            *("app", "course_screen", "editor", "help", "keys"),
            *("lines", "panes", "places", "question", "run_screen", "screen"),
        )
    },
    "textual_serve": {"labs.engine.learn.visit", "labs.engine.learn.web"},
    "invoke": {"labs.engine.command", "tasks"},
    "jinja2": {"labs.engine.views.html"},
    "pygments": {"labs.engine.site.lexer"},
    "sphinx": {"labs.engine.site.generator", "labs.engine.site.search"},
}
LAB_MAY_IMPORT = {"labs.engine.script"}
CHECK_MAY_IMPORT = {"labs.engine.challenge"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> list[tuple[str, Path]]:
    paths = [ROOT / "tasks.py", *sorted((ROOT / "labs").rglob("*.py"))]
    return [(module_name(path), path) for path in paths]


def imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import hides its direction"
            yield node.module


def imports(prefix: str) -> list[tuple[str, str]]:
    """Pairs of importer and imported for all modules whose name begins so."""
    return [
        (name, imported)
        for name, path in modules()
        if name.startswith(prefix)
        for imported in imported_by(path)
    ]


def test_there_is_something_to_check() -> None:
    assert len(imports(ENGINE)) > 50
    assert imports("labs.euid")


@pytest.mark.parametrize("library", ADAPTERS)
def test_a_library_has_one_adapter(library: str) -> None:
    importers = {name for name, imported in imports("") if imported.split(".")[0] == library}
    assert importers == ADAPTERS[library]


def test_a_lab_knows_the_script_alone() -> None:
    for name, imported in imports("labs."):
        is_lab = not name.startswith(ENGINE)
        if is_lab and imported.startswith("labs."):
            allowed = CHECK_MAY_IMPORT if ".challenge." in name else LAB_MAY_IMPORT
            assert imported in allowed, f"{name} imports {imported}"


def test_a_backend_knows_neither_labs_nor_views() -> None:
    names = (
        *("backend", "agent", "warm", "system", "errors", "model", "capabilities"),
        *("plans", "progress", "version", "spawned", "worker"),
    )
    allowed = tuple("labs.engine." + name for name in names)
    for name, imported in imports("labs.engine.backends"):
        if imported.startswith("labs"):
            assert imported.startswith(allowed), f"{name}: {imported}"


def test_a_view_knows_neither_labs_nor_backends() -> None:
    allowed = {
        "model",
        "capabilities",
        "challenge",
        "decision",
        "errors",
        "prediction",
        "progress",
        "record",
        "strace",
        "views.digest",
        "views.exercise",
        "views.json",
        "views.pause",
        "views.reasons",
        "views.phrases",
        "views.score",
        "views.terminal",
    } | {
        "authoring.result",
        "exercises.grades",
        "exercises.progress",
        "views.junit",
        "classes.result",
        "classes.table",
        "kernels.comparison",
        "rulings",
        "translation",
        "users",
        "version",
        "views.classroom",
    }
    beside = ("pictures.", "port.", "rules.", "views.report.")
    for name, imported in imports("labs.engine.views"):
        if imported.startswith("labs"):
            known = imported.removeprefix("labs.engine.")
            assert known in allowed or known.startswith(beside), f"{name}: {imported}"


def test_a_class_is_controlled_without_knowing_what_runs_it() -> None:
    apart = {f"labs.engine.classes.{name}" for name in ("single", "swarm", "classroom")}
    for name, imported in imports("labs.engine.classes"):
        if name not in apart:
            assert not imported.startswith("labs.engine.backends.docker"), f"{name}: {imported}"
            assert imported not in apart, f"{name}: {imported}"


def test_the_model_knows_nobody() -> None:
    own = "labs.engine.decision"  # a part of it
    for module in ("labs.engine.model", own):
        assert {name for _, name in imports(module) if name.startswith("labs")} <= {own}


STANDARD = sys.stdlib_module_names | {"__future__"}


def test_the_agent_needs_what_is_beside_it_and_the_standard_library() -> None:
    beside = {"labs.engine.spawned", "labs.engine.system", "labs.engine.worker"}
    found = {
        name
        for module in (
            "labs.engine.agent",
            "labs.engine.capabilities",
            "labs.engine.system",
            *beside,
        )
        for _, name in imports(module)
    }
    found -= beside
    assert {name.split(".")[0] for name in found} <= STANDARD


def test_what_is_forked_from_has_nothing_but_the_agent() -> None:
    namespaces = "labs.engine.backends.namespaces"
    for module in ("labs.engine.warm_parent", f"{namespaces}.init", f"{namespaces}.sandbox"):
        others = {name for _, name in imports(module) if name.split(".")[0] not in STANDARD}
        assert others <= {
            *("labs.engine.agent", "labs.engine.system", "labs.engine.warm_parent"),
            *("labs.engine.spawned", "labs.engine.worker", f"{namespaces}.sandbox"),
        }


def test_modules_and_functions_stay_small() -> None:
    for name, path in modules():
        source = path.read_text()
        assert source.count("\n") <= 500, f"{name} is too long"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                # A lab's script is told from top to bottom.
                limit = 60 if name.startswith(ENGINE) else 80
                assert length <= limit, f"{name}.{node.name} has {length} lines"


def test_the_widest_interface_has_at_most_eight_methods() -> None:
    check_width("labs/engine/backend.py", "Backend")
    check_width("labs/engine/classes/cluster.py", "Cluster")


def check_width(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    (protocol,) = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    methods = [node.name for node in protocol.body if isinstance(node, ast.FunctionDef)]
    assert 1 <= len(methods) <= 8


def test_the_rules_know_nothing_but_themselves() -> None:
    for name, imported in imports("labs.engine.rules."):
        if imported.startswith("labs"):
            assert imported.startswith("labs.engine.rules"), f"{name}: {imported}"
        else:
            assert imported.split(".")[0] in STANDARD, f"{name}: {imported}"
    assert len(imports("labs.engine.rules.")) > 20


def test_a_picture_knows_the_model_and_no_library() -> None:
    names = "model", "pictures", "strace", "users"
    allowed = tuple(f"labs.engine.{name}" for name in names)
    for name, imported in imports("labs.engine.pictures"):
        if imported.startswith("labs"):
            assert imported.startswith((*allowed, "labs.engine.translation")), f"{name}: {imported}"
        else:
            assert imported.split(".")[0] in STANDARD, f"{name}: {imported}"
