"""Find upstreams, tasks, suites, recipes and protocols by name.

Conventions
-----------
A spec is ``NAME`` or ``NAME:ARGUMENT``, looked up in this order:

1. the built-in names of a `Registry`,
2. for upstreams, the path of a folder, which stands for ``saved:PATH``, an upstream that marble trained,
3. the entry points of installed packages (``marble.upstreams``, ``marble.tasks``, ``marble.suites``, ``marble.recipes``,
   ``marble.protocols``),
4. ``module:attribute`` of any importable module, where the current folder joins ``sys.path``; or ``path/of/file.py:attribute``,
   where the folder of the file joins it.

Nothing is imported before it is needed. The error for an unknown name lists the nearest known ones.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marble.errors import MarbleError, one_line
from marble.system.files import user_path
from marble.tasks import ARGUMENTS as TASK_ARGUMENTS
from marble.tasks import OPTIONAL as OPTIONAL_ARGUMENTS
from marble.tasks import TASKS
from marble.upstreams import ARGUMENTS as UPSTREAM_ARGUMENTS
from marble.upstreams import UPSTREAMS

if TYPE_CHECKING:
    import pandas

    from marble.task import SplitRule, Task
    from marble.tasks.suites import Suite
    from marble.upstream import Upstream, UpstreamInfo, UpstreamSource


@dataclass(frozen=True)
class Registry:
    """The names of one kind of thing, built-in and installed.

    Attributes:
        kind: the word for such a thing.
        table: name -> "module:attribute" of the built-in ones; or the "module:MAPPING" that holds them all.
        arguments: name -> a word for the part after the colon, for names that take one.
        optional: those of them that also exist without one.
    """

    kind: str
    table: Mapping[str, str] | str
    arguments: Mapping[str, str] = field(default_factory=dict)
    optional: Collection[str] = ()

    def names(self) -> list[str]:
        """Return all names, built-in ones first."""
        installed = {point.name for point in entry_points(group=self._group)}
        return [*self._table(), *sorted(installed - set(self._table()))]

    def complete_names(self) -> list[str]:
        """Return the names that need no argument; the meaning of ``all``."""
        return [name for name in self.names() if name not in self.arguments or name in self.optional]

    def find(self, spec: str) -> tuple[Any, str | None]:
        """Return the object that a spec names, and the argument after its colon; ``module:attribute`` has none.

        Raises:
            MarbleError: nothing has this name, or its module cannot be imported.
        """
        name, colon, argument = spec.partition(":")
        if name in self._table():
            value = _attribute(self._table()[name])
            return value[name] if isinstance(value, Mapping) else value, argument if colon else None
        try:
            for point in entry_points(group=self._group, name=name):
                return point.load(), argument if colon else None
            if colon and argument.isidentifier():
                return _attribute_of_user(name, argument), None
        except Exception as error:  # the module of a package or of a user may raise anything while it is imported
            raise MarbleError(
                f"The {self.kind} '{spec}' cannot be imported ({one_line(error)}): check its name, install what it needs, "
                "or mend its module."
            ) from error
        near = difflib.get_close_matches(name, self.names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}" if near else f"known are {', '.join(self.names())}"
        hint = f"write {name}:NAME for what the file holds" if name.endswith(".py") else hint
        raise MarbleError(f"There is no {self.kind} called '{name}': {hint}; marble ls {self.kind}s lists them.")

    def load(self, spec: str, contract: type, *more: object) -> Any:
        """Return the object that a spec names; a function of this name is called with the argument, and with `more`.

        Raises:
            MarbleError: as `find`; the object is not a `contract` or takes no argument; or a function lacks its argument.
        """
        value, argument = self.find(spec)
        if _is_function(value) and not _is_path(spec, argument):
            value = value(self.require(spec, argument), *more)
        elif argument is not None:
            raise MarbleError(f"The {self.kind} '{spec.partition(':')[0]}' takes no argument: leave out ':{argument}'.")
        if not isinstance(value, contract):
            name = f"{contract.__module__}.{contract.__name__}"
            raise MarbleError(f"'{spec}' is not a {self.kind}: it must be a {name}.")
        return value

    def require(self, spec: str, argument: str | None) -> str:
        """Return the argument that a function needs, empty where it may be left out.

        Raises:
            MarbleError: it is missing.
        """
        name = spec.partition(":")[0]
        if argument is None and name in self.optional:
            return ""
        if not argument:
            word = self.arguments.get(name, "ARGUMENT")
            raise MarbleError(f"The {self.kind} '{name}' needs an argument: write {name}:{word}.")
        return argument

    @property
    def _group(self) -> str:
        return f"marble.{self.kind}s"

    def _table(self) -> Mapping[str, str]:
        return dict.fromkeys(_attribute(self.table), self.table) if isinstance(self.table, str) else self.table


def _is_path(spec: str, argument: str | None) -> bool:
    """Tell whether a spec was found as ``module:attribute``."""
    return ":" in spec and argument is None


def _is_function(value: object) -> bool:
    return callable(value) and not isinstance(value, type)


def _attribute(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _attribute_of_user(module: str, attribute: str) -> Any:
    """Return an attribute of a module, or of a file that ends with .py; the folder it is looked for in joins `sys.path`.

    Raises:
        ImportError: there is no such module; the text says where it was looked for.
        Exception: whatever the module raises.
    """
    file = user_path(module).absolute() if module.endswith(".py") else None
    folder, name = (file.parent, file.stem) if file else (Path.cwd(), module)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        loaded = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ModuleNotFoundError(f"no module '{error.name}' in {folder}, nor among what is installed") from error
    origin = Path(getattr(loaded, "__file__", None) or "")
    if file and origin.resolve() != file.resolve():
        raise ImportError(f"{file} has the name of {origin}, which is loaded already")
    if not hasattr(loaded, attribute):
        raise AttributeError(f"{origin} has no attribute '{attribute}'")
    return getattr(loaded, attribute)


upstreams = Registry("upstream", UPSTREAMS, UPSTREAM_ARGUMENTS)
tasks = Registry("task", TASKS, TASK_ARGUMENTS, OPTIONAL_ARGUMENTS)
suites = Registry("suite", "marble.tasks.suites:SUITES")
recipes = Registry("recipe", "marble.pretraining.recipes:RECIPES")
protocols = Registry("protocol", "marble.probe.presets:PROTOCOLS")

upstream_names, complete_upstream_names = upstreams.names, upstreams.complete_names
task_names, complete_task_names = tasks.names, tasks.complete_names


def find_upstream(spec: str) -> UpstreamSource:
    """Return the upstream that a spec names, not loaded; an argument after the colon is ignored.

    Raises:
        MarbleError: nothing has this name, it is not an upstream, or it exists with an argument only.
    """
    source, _ = _find_upstream(spec)
    if _is_function(source):
        raise MarbleError(f"{spec} is no architecture of its own: name the upstream that it stands for.")
    return source


def refuse_unknown_upstream(spec: str) -> None:
    """Raise a `MarbleError` where a spec names no upstream; nothing is loaded."""
    _find_upstream(spec)


def load_upstream(spec: str | Path, *, offline: bool = False) -> Upstream:
    """Return the upstream of a spec such as ``muq``, ``muq:PATH`` or ``my_package.my_model:MyModel``, with its weights.

    A path is that of a folder that ``marble pretrain`` wrote. The upstream is in evaluation mode and without gradients.

    Raises:
        MarbleError: nothing has this name, it is not an upstream, or its weights cannot be loaded.
    """
    from marble.upstream import Upstream, UpstreamInfo

    spec = str(spec)
    source, argument = _find_upstream(spec)
    if _is_function(source):
        load, argument = source, upstreams.require(spec, argument)
    else:
        load = source.load
    try:
        upstream = load(argument, offline=offline)
    except OSError as error:
        raise MarbleError(f"The upstream '{spec}' cannot be read ({error}): check its path and its permissions.") from error
    except Exception as error:
        if isinstance(error, MarbleError) or str(getattr(source, "__module__", "")).startswith("marble."):
            raise
        raise MarbleError(f"The upstream '{spec}' cannot be loaded ({one_line(error)}): mend its module.") from error
    if not isinstance(upstream, Upstream):
        raise MarbleError(f"'{spec}' is not an upstream: what it loads must be a marble.upstream.Upstream.")
    if not isinstance(getattr(upstream, "info", None), UpstreamInfo):
        raise MarbleError(f"The upstream '{spec}' has no info: give its class one, see marble.upstream.")
    return upstream.eval().requires_grad_(False)


def upstream_info(spec: str) -> UpstreamInfo:
    """Return the info of the upstream of a spec; the upstream is loaded if only its files hold the info.

    Raises:
        MarbleError: nothing has this name, or its files cannot be loaded without the network.
    """
    source, argument = _find_upstream(spec)
    if argument is None and hasattr(source, "info"):
        return source.info
    return load_upstream(spec, offline=True).info


def load_task(
    spec: str | Path | pandas.DataFrame,
    manifest: str | None = None,
    *,
    offline: bool = False,
    rule: SplitRule | None = None,
    name: str | None = None,
) -> Task:
    """Return the task of a spec such as ``gtzan``, ``folder:PATH`` or ``my_package.my_task:TASK``.

    Args:
        spec: of the task; or the path of a folder or table, or a DataFrame with the columns of `marble.tasks.own.table`.
        manifest: a MARBLE v2 manifest or a Hugging Face dataset to take its clips from; see `marble.tasks.own.manifest`.
        offline: do not look for the manifest on the network.
        rule: how the user's own data is split.
        name: for the user's own data, in place of that of its file or folder.

    Raises:
        MarbleError: nothing has this name, it is not a `Task`, it is a suite of several, there is no such manifest, or a rule
            or name is given for a task that has its own.
    """
    from marble.task import Task

    if isinstance(spec, Path):
        spec = f"{'folder' if spec.is_dir() else 'table'}:{spec}"
    if not isinstance(spec, str):
        from marble.tasks.own.table import frame_task

        task = frame_task(spec, rule)
    elif spec.startswith("suite:"):
        names = ", ".join(load_suite(spec).tasks)
        raise MarbleError(f"{spec} is several tasks ({names}): give it to marble.jobs.many.run_all.")
    elif spec.partition(":")[0] in TASK_ARGUMENTS and spec not in OPTIONAL_ARGUMENTS:
        task = tasks.load(spec, Task, rule)
    elif rule or name:
        raise MarbleError(
            f"'{spec}' has a name and splits of its own: --name, --group and split.valid are for folder:, table: and "
            "chords:PATH."
        )
    else:
        _refuse_bare_path(spec)
        task = tasks.load(spec, Task)
    if name:
        task = replace(task, name=f"{task.name.partition(':')[0]}:{name}")
    if manifest is None:
        return task
    from marble.tasks.own.manifest import with_manifest

    return with_manifest(task, manifest, offline=offline)


def _refuse_bare_path(spec: str) -> None:
    with suppress(OSError):  # a name too long for a path
        if spec and spec not in task_names() and user_path(spec).exists():
            kind = "folder" if user_path(spec).is_dir() else "table"
            raise MarbleError(f"'{spec}' is a path: write {kind}:{spec} for the task over its audio.")


def load_suite(spec: str) -> Suite:
    """Return the suite of a spec such as ``suite:muq``.

    Raises:
        MarbleError: nothing has this name.
    """
    from marble.tasks.suites import Suite

    return suites.load(spec.removeprefix("suite:"), Suite)


def open_suites(specs: Sequence[str]) -> dict[str, str | None]:
    """Return the tasks that specs name, each once, with None or the reason why marble cannot run this task of a suite.

    Raises:
        MarbleError: there is no such suite.
    """
    known, complete = task_names(), complete_task_names()
    named = {spec.partition(":")[0] for spec in specs}
    opened: dict[str, str | None] = {}
    for spec in specs:
        for name in load_suite(spec).tasks if spec.startswith("suite:") else [spec]:
            if name == spec or name in complete:
                opened[name] = None
            elif name not in named:
                opened[name] = f"on data of yours: add {name}:FILE to --task" if name in known else "not in marble yet"
    return opened


def split_specs(text: str, everything: Sequence[str], kind: str) -> list[str]:
    """Return the specs in ``NAME[,NAME…]`` or ``all``; a comma inside an existing path does not split.

    Args:
        text: as typed.
        everything: the meaning of ``all``.
        kind: a word such as "task".

    Raises:
        MarbleError: the text is empty.
    """
    if text == "all":
        return list(everything)
    name, colon, argument = text.partition(":")
    with suppress(OSError):  # longer than a path may be
        if colon and "," not in name and Path(argument).exists():
            return [text]
    specs = [part.strip() for part in text.split(",") if part.strip()]
    if not specs:
        raise MarbleError(f"'{text}' names no {kind}: write NAME[,NAME…] or all; marble ls {kind}s lists the names.")
    return specs


def _find_upstream(spec: str) -> tuple[Any, str | None]:
    """Return the `UpstreamSource` or the function that a spec names, and the argument after its colon."""
    from marble.upstream import Upstream

    with suppress(OSError):  # a name too long for a path
        if spec and spec not in UPSTREAMS and user_path(spec).is_dir():
            spec = f"saved:{spec}"
    source, argument = upstreams.find(spec)
    if isinstance(source, type):
        known = issubclass(source, Upstream)
    else:
        known = not _is_path(spec, argument) if _is_function(source) else hasattr(source, "load")
    if not known:
        raise MarbleError(f"'{spec}' is not an upstream: it must be a subclass of marble.upstream.Upstream.")
    return source, argument
