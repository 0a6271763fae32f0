"""All results below a folder as one table, tidy: a row for each observation, a column for each variable.

===================  ===================================================================================================
column               what it holds
===================  ===================================================================================================
``upstream``         name of the upstream
``task``             name of the task, with its place where data sets of one name differ (`marble.results.choose.task_titles`)
``protocol``         label of the protocol
``layer``            index of the layer, or "weighted"
``layer_name``       its name
``depth``            relative depth: 0 for layer 0, 1 for the last layer of the upstream; NaN for the weighted sum
``selected``         validation chose this layer
``seed``             of the probe
``learning_rate``    that validation chose; NaN where nothing was trained
``epoch``            likewise
``metric``           name of the metric
``main``             it is the main metric of the task, by which validation chooses
``higher_is_better`` its direction
``validation``       score of this seed on the validation tracks; NaN where it does not exist
``test``             score of this seed on the test tracks
``test_low``         lower end of the 95 % interval over tracks of the layer's mean over all seeds; the same in their rows
``test_high``        upper end
``weights``          learned weights of the layers, of a weighted sum
``train_tracks``     number of tracks that the probes were trained on
``test_tracks``      number of tracks that were tested
``limit``            at most this many tracks of each split, where that left any out
``synthetic``        the task is one of those that marble makes itself
``note``             cautions about the selected layer, in their short form
``date``             of the run, UTC
``identity``         of the result: one for each file
===================  ===================================================================================================

The table of answers has a row for each layer, seed, split and track: ``upstream``, ``task``, ``protocol``, ``layer``, ``seed``,
``split`` ("valid" or "test"), ``track``, ``target`` (a list of labels or numbers), ``prediction`` (a label, where there is a
single one), ``logits`` (a list: one for each label, or the numbers; empty where none are stored) and ``identity``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marble.errors import MarbleError
from marble.results.choose import task_titles
from marble.results.schema import Result, depth_of
from marble.results.store import read_all

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "upstream", "task", "protocol", "layer", "layer_name", "depth", "selected", "seed", "learning_rate", "epoch", "metric",
    "main", "higher_is_better", "validation", "test", "test_low", "test_high", "weights", "train_tracks", "test_tracks",
    "limit", "synthetic", "note", "date", "identity",
)  # fmt: skip
ANSWERS = (
    "upstream", "task", "protocol", "layer", "seed", "split", "track", "target", "prediction", "logits", "identity",
)  # fmt: skip


def load(root: Path | str = "results", *, predictions: bool = False) -> pandas.DataFrame:
    """Return all results below a folder as one table, whose columns this module describes.

    A file that cannot be read is named in a warning and passed over.

    Args:
        root: the folder of all results.
        predictions: return the answers to every validation and test track in place of the scores.

    Raises:
        MarbleError: there is no such folder.
    """
    import pandas

    results = read_all(Path(root))
    both = list(zip(results, task_titles(results), strict=True))
    if predictions:
        tables = [table for result, task in both for table in _answers(result, task, Path(root))]
        if len(tables) < len(both):
            warnings.warn(f"The answers of {len(both) - len(tables)} of {len(both)} results are passed over.", stacklevel=2)
        return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=list(ANSWERS))
    return pandas.DataFrame([row for result, task in both for row in _scores(result, task)], columns=list(COLUMNS))


def _scores(result: Result, task: str) -> Iterator[dict[str, Any]]:
    last = len(result.upstream.layers) - 1
    of_result = {
        "upstream": result.upstream.name,
        "task": task,
        "protocol": result.protocol.label,
        "train_tracks": result.task.tracks["train"],
        "test_tracks": result.task.tracks["test"],
        "limit": result.task.limit,
        "synthetic": result.task.synthetic,
        "note": "; ".join(result.short_cautions),
        "date": result.provenance.date,
        "identity": result.identity,
    }
    for layer in result.layers:
        of_layer = {
            "layer": layer.layer,
            "layer_name": layer.name,
            "depth": depth_of(layer.layer, last),
            "selected": layer.layer == result.selected.layer,
            "weights": layer.weights,
        }
        for run in layer.runs:
            of_run = {"seed": run.seed, "learning_rate": run.learning_rate, "epoch": run.epoch}
            for metric, score in run.test.items():
                low, high = layer.test[metric].ci95 or (None, None)
                yield (
                    of_result
                    | of_layer
                    | of_run
                    | {
                        "metric": metric,
                        "main": metric == result.task.main_metric,
                        "higher_is_better": result.higher_is_better(metric),
                        "validation": run.validation[metric],
                        "test": score,
                        "test_low": low,
                        "test_high": high,
                    }
                )


def _answers(result: Result, task: str, root: Path) -> Iterator[pandas.DataFrame]:
    """Yield the answers of a result; none where they cannot be read, with a warning."""
    try:
        table = result.predictions(root)
    except MarbleError as error:
        warnings.warn(str(error), stacklevel=3)
        return
    layers = {str(layer.layer): layer.layer for layer in result.layers}
    names = {"upstream": result.upstream.name, "task": task, "protocol": result.protocol.label, "identity": result.identity}
    yield table.assign(layer=table.layer.map(layers), **names).reindex(columns=list(ANSWERS))
