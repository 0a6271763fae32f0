"""Choose the results of a figure or a table, and one of several results on one task.

- Of one upstream's results on a task the newest is taken; of those on the same data the one with the most layers, so that a
  look at one layer replaces no scan.
- Results under a changed protocol or a limit, or of older weights of one name, stand apart from the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from marble.files import digest
from marble.results.schema import Result


def choose_results(results: Iterable[Result]) -> dict[Path, list[Result]]:
    """Return the chosen results of each upstream and protocol, one for each task, by the stem of their figure.

    The stem, such as ``muq/marble``, is a path below the folder of all results; it ends with a hash of the
    differences where a group stands apart.
    """
    groups: dict[Path, dict[str, Result]] = {}
    by_date = sorted(results, key=lambda result: result.provenance.date)
    newest = {result.upstream.name: result.upstream.weights_sha256 for result in by_date}
    for result in by_date:
        stem = Path(result.path.parts[0], result.path.stem.rpartition("-")[0])
        weights = result.upstream.weights_sha256
        older = None if weights == newest[result.upstream.name] else weights
        changes = [result.protocol.changes, result.task.limit, older]
        if any(changes):
            stem = stem.with_name(f"{stem.name}-{digest(changes)[:6]}")
        group = groups.setdefault(stem, {})
        before = group.get(result.task.name)
        if not before or before.task.data_sha256 != result.task.data_sha256 or len(before.layers) <= len(result.layers):
            group[result.task.name] = result
    return {stem: list(group.values()) for stem, group in sorted(groups.items())}
