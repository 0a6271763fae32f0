"""From a name to an upstream or a task.

Conventions
-----------
A spec is ``NAME`` or ``NAME:ARGUMENT``, looked up in this order:

1. the built-in table (`marble.upstreams.UPSTREAMS`, `marble.tasks.TASKS`: name -> "module:attribute"),
2. for upstreams, the path of a folder, which stands for ``saved:PATH``, an upstream that marble trained,
3. the entry points ``marble.upstreams`` and ``marble.tasks`` of installed packages,
4. ``module:attribute`` of any importable module; the current folder joins ``sys.path`` for it.

Nothing is imported before it is asked for. An unknown name answers with the nearest known ones.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marble.errors import MarbleError, one_line
from marble.files import user_path
from marble.tasks import ARGUMENTS as TASK_ARGUMENTS
from marble.tasks import TASKS
from marble.upstreams import ARGUMENTS as UPSTREAM_ARGUMENTS
from marble.upstreams import UPSTREAMS

if TYPE_CHECKING:
    from marble.task import Task
    from marble.tasks.suites import Suite
    from marble.upstream import Upstream, UpstreamInfo


def upstream_names() -> list[str]:
    """Return the names of the built-in and installed upstreams, built-in ones first."""
    return _names(UPSTREAMS, "marble.upstreams")


def task_names() -> list[str]:
    """Return the names of the built-in and installed tasks, built-in ones first."""
    return _names(TASKS, "marble.tasks")


def complete_upstream_names() -> list[str]:
    """Return the names of the upstreams that need no argument; what ``--upstream all`` means."""
    return [name for name in upstream_names() if name not in UPSTREAM_ARGUMENTS]


def complete_task_names() -> list[str]:
    """Return the names of the tasks that need no argument; what ``--task all`` means."""
    return [name for name in task_names() if name not in TASK_ARGUMENTS]


def upstream_class(spec: str) -> type[Upstream]:
    """Return the class of the upstream that a spec names; an argument behind the colon is passed over.

    Raises:
        MarbleError: nothing has this name, or it is not an `Upstream`.
    """
    return _upstream(spec)[0]


def load_upstream(spec: str, *, offline: bool = False) -> Upstream:
    """Return the upstream of a spec such as ``muq``, ``muq:PATH`` or ``my_package.my_model:MyModel``, weights loaded.

    Raises:
        MarbleError: nothing has this name, it is not an `Upstream`, or its weights cannot be loaded.
    """
    from marble.upstream import UpstreamInfo

    found, argument = _upstream(spec)
    try:
        upstream = found.load(argument, offline=offline)
    except OSError as error:
        raise MarbleError(f"The upstream '{spec}' cannot be read ({error}): check its path and its permissions.") from error
    except Exception as error:
        if isinstance(error, MarbleError) or found.__module__.startswith("marble."):
            raise
        raise MarbleError(f"The upstream '{spec}' cannot be loaded ({one_line(error)}): mend its module.") from error
    if not isinstance(getattr(upstream, "info", None), UpstreamInfo):
        raise MarbleError(f"The upstream '{spec}' tells nothing of itself: give its class an info, see marble.upstream.")
    return upstream


def upstream_info(spec: str) -> UpstreamInfo:
    """Return what is known about the upstream of a spec; it is loaded where its files, or nothing else, can tell.

    Raises:
        MarbleError: nothing has this name, or what its argument names cannot be loaded without the network.
    """
    found, argument = _upstream(spec)
    if argument is None and hasattr(found, "info"):
        return found.info
    return load_upstream(spec, offline=True).info


def load_task(spec: str, manifest: str | None = None, *, offline: bool = False) -> Task:
    """Return the task of a spec such as ``gtzan``, ``folder:PATH`` or ``my_package.my_task:TASK``.

    Args:
        spec: of the task.
        manifest: a MARBLE v2 manifest or a Hugging Face dataset to take its clips from; see `marble.tasks.own.manifest`.
        offline: do not look for the manifest on the network.

    Raises:
        MarbleError: nothing has this name, it is not a `Task`, it is a suite of several, or there is no such manifest.
    """
    from marble.task import Task

    if spec.startswith("suite:"):
        names = ", ".join(load_suite(spec).tasks)
        raise MarbleError(f"{spec} is several tasks ({names}): give it to marble.jobs.many.run_all.")
    found, argument = _find(spec, TASKS, "marble.tasks", "task")
    if callable(found) and not isinstance(found, Task):
        if not argument:
            name = spec.partition(":")[0]
            raise MarbleError(f"The task '{name}' needs an argument: write {name}:{TASK_ARGUMENTS.get(name, 'ARGUMENT')}.")
        found = found(argument)
    elif argument is not None:
        raise MarbleError(f"The task '{spec.partition(':')[0]}' takes no argument: leave out ':{argument}'.")
    if not isinstance(found, Task):
        raise MarbleError(f"'{spec}' is not a task: it must be a marble.task.Task.")
    if manifest is None:
        return found
    from marble.tasks.own.manifest import with_manifest

    return with_manifest(found, manifest, offline=offline)


def load_suite(spec: str) -> Suite:
    """Return the suite of a spec such as ``suite:muq``.

    Raises:
        MarbleError: nothing has this name.
    """
    from marble.tasks.suites import SUITES

    name = spec.removeprefix("suite:")
    if name not in SUITES:
        raise _unknown("suite", name, list(SUITES))
    return SUITES[name]


def open_suites(specs: Sequence[str]) -> dict[str, str | None]:
    """Return the tasks that specs name, each once: None, or why marble cannot run this task of a suite.

    Raises:
        MarbleError: there is no such suite.
    """
    known, complete = task_names(), complete_task_names()
    given = {spec.partition(":")[0] for spec in specs}
    tasks: dict[str, str | None] = {}
    for spec in specs:
        for name in load_suite(spec).tasks if spec.startswith("suite:") else [spec]:
            if name == spec or name in complete:
                tasks[name] = None
            elif name not in given:
                tasks[name] = f"on data of yours: add {name}:FILE to --task" if name in known else "not in marble yet"
    return tasks


def split_specs(text: str, everything: Sequence[str], what: str) -> list[str]:
    """Return the specs in ``NAME[,NAME…]`` or ``all``; a comma inside an existing path does not split.

    Args:
        text: as typed.
        everything: what ``all`` means.
        what: is named, such as "task".

    Raises:
        MarbleError: nothing is named.
    """
    if text == "all":
        return list(everything)
    name, colon, argument = text.partition(":")
    with suppress(OSError):  # longer than a path may be
        if colon and "," not in name and Path(argument).exists():
            return [text]
    specs = [part.strip() for part in text.split(",") if part.strip()]
    if not specs:
        raise MarbleError(f"'{text}' names no {what}: write NAME[,NAME…] or all; marble ls {what}s lists the names.")
    return specs


def _upstream(spec: str) -> tuple[type[Upstream], str | None]:
    """Return the class that a spec names, and its argument."""
    from marble.upstream import Upstream

    with suppress(OSError):  # a name too long for a path
        if spec not in UPSTREAMS and user_path(spec).is_dir():
            spec = f"saved:{spec}"
    found, argument = _find(spec, UPSTREAMS, "marble.upstreams", "upstream")
    if not (isinstance(found, type) and issubclass(found, Upstream)):
        raise MarbleError(f"'{spec}' is not an upstream: it must be a subclass of marble.upstream.Upstream.")
    return found, argument


def _names(table: dict[str, str], group: str) -> list[str]:
    installed = [point.name for point in entry_points(group=group)]
    return list(table) + sorted(name for name in installed if name not in table)


def _find(spec: str, table: dict[str, str], group: str, kind: str) -> tuple[Any, str | None]:
    """Return the object that a spec names, and the argument behind its colon."""
    name, colon, argument = spec.partition(":")
    if name in table:
        return _attribute(table[name]), argument if colon else None
    try:
        for point in entry_points(group=group, name=name):
            return point.load(), argument if colon else None
        if colon and argument.isidentifier():
            if str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))
            return _attribute(spec), None
    except Exception as error:  # whatever the module of a package or of a user raises while it is imported
        raise MarbleError(
            f"The {kind} '{spec}' cannot be imported ({one_line(error)}): check its name, install what it needs, "
            "or mend its module."
        ) from error
    raise _unknown(kind, name, _names(table, group))


def _unknown(kind: str, name: str, known: list[str]) -> MarbleError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}" if near else f"known are {', '.join(known)}"
    return MarbleError(f"There is no {kind} called '{name}': {hint}; marble ls {kind}s lists them.")


def _attribute(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
