"""Dependencies point one way: every import of the packages is read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"marble": ROOT / "benchmark", "marble.tasks": ROOT / "tasks", "marble.upstreams": ROOT / "upstreams"}
# The contracts, and what stands below them.
GROUND = {"errors", "frames", "kinds", "random_streams", "settings", "system"}
CONTRACTS = {"task", "upstream"}
# A wing imports those before it, the ground floor and the contracts; `registry` reaches plug-ins by name.
WINGS = ["audio", "features", "results", "probe", "data", "jobs", "analysis", "pretraining", "cli"]
PLUG_INS = {"tasks", "upstreams"}
# What a wing may import beside that.
ALLOWED = {
    # Pretraining reads tables and streams of tasks, and trains upstreams.
    ("pretraining", "tasks"), ("pretraining", "upstreams"),
    # Lists of names, which hold no code.
    ("registry", "tasks"), ("registry", "upstreams"), ("registry", "probe"), ("registry", "pretraining"), ("cli", "tasks"),
    # ``random-init:NAME`` is made of the upstream of another name.
    ("upstreams", "registry"),
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module."""
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


def imports(path: Path) -> Iterator[str]:
    """Every module of marble that a file imports, anywhere in it."""
    known = {name for name, _ in modules()}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [part if part in known else node.module for part in parts]
        yield from (name for name in names if name.startswith("marble."))


def room(module: str) -> str:
    """The room of a module: its folder or file directly below marble."""
    return [*module.split("."), ""][1]


def allowed(source: str, target: str) -> bool:
    """Whether a room may import another."""
    if source in ("", "__main__") or target in (source, "") or (source, target) in ALLOWED:
        return True
    if source in GROUND:
        return target in GROUND
    if source in CONTRACTS:
        return target in GROUND
    if source in PLUG_INS:
        return target in GROUND | CONTRACTS | {"audio"}
    if source == "registry":
        return target in GROUND | CONTRACTS
    return target in GROUND | CONTRACTS | {"registry"} or (target in WINGS and WINGS.index(target) < WINGS.index(source))


@pytest.mark.parametrize(("module", "path"), sorted(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_point_one_way(module, path):
    wrong = [target for target in imports(path) if not allowed(room(module), room(target))]
    assert not wrong, f"{module} imports {wrong}"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmark" / "pretraining").rglob("*.py")), ids=lambda path: path.stem)
def test_pretraining_names_no_family_of_upstreams(path):
    shared = ("marble.upstreams.nn", "marble.upstreams.loading")
    assert [name for name in imports(path) if name.startswith("marble.upstreams") and not name.startswith(shared)] == []


def test_no_two_modules_import_each_other_in_a_circle():
    files = dict(modules())
    edges = {name: {target for target in imports(path) if target in files} for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in edges[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in files:
        visit(name, ())


# To compare hidden states, they must be computed.
WITHOUT_TORCH = [name for name, _ in modules() if room(name) in ("results", "analysis") and name != "marble.analysis.layers"]


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_results_and_analysis_import_no_torch(module):
    nodes = list(ast.walk(ast.parse(dict(modules())[module].read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    sources = [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert "torch" not in {name.partition(".")[0] for name in names + sources}


def test_every_folder_is_a_package_that_is_installed():
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    held = {name for name, path in modules() if path.name == "__init__.py"}
    assert held == set(listed) - {"marble.papers"}
