"""The modules of pretraining: no circle of imports, and no family of upstreams known by name."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import marble.pretraining

FOLDER = Path(marble.pretraining.__path__[0])
ALLOWED = ("marble.upstreams.nn.", "marble.upstreams.loading.")


def imported(path):
    """The names that a file imports anywhere, for type checkers alone as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    """Every module of the folder and the names that it imports."""
    for path in FOLDER.rglob("*.py"):
        module = ".".join(("marble.pretraining", *path.relative_to(FOLDER).with_suffix("").parts))
        yield module, list(imported(path))


def test_no_module_imports_another_in_a_circle():
    known = dict(modules())
    edges = {
        module: {other for other in known if any(name == other or name.startswith(f"{other}.") for name in names)}
        for module, names in known.items()
    }
    assert edges["marble.pretraining.checkpoint"] >= {"marble.pretraining.state"}
    TopologicalSorter(edges).prepare()  # which raises CycleError


def test_no_family_of_upstreams_is_imported():
    upstreams = [name for _, names in modules() for name in names if name.startswith("marble.upstreams.")]
    assert upstreams
    assert [name for name in upstreams if not name.startswith(ALLOWED)] == []
