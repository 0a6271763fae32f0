"""``music-preference:FILE``, ``rap-detection:FILE``, ``sound-quality:FILE``: the layer-wise study's own three tasks.

Data
    The 4,000 rated tracks of the study (Music Taste) are private, so its numbers cannot be reproduced; these tasks apply its
    definitions to other tracks. FILE is a table as in `marble.tasks.own.table`, with ``path`` and ``score``, the mean rating
    of the listeners, instead of a target; ``id``, ``start``, ``stop``, ``group`` and ``split`` are optional.
Labels
    music-preference (0 unpleasant, 1 mostly pleasant, 2 professional): preferred above 1, else non-preferred.
    rap-detection (0 all rap, 1 both, 2 no rap): rap below 0.67, non-rap above 1.34, else mix.
    sound-quality (0 bad, 1 good): good above 0.5, else bad. The paper says "above 1", which no mean on this scale reaches.
Split
    The column if there is one, else 3:1:1 as in the paper: by content or group, stratified by class.
Metrics
    accuracy (main), balanced accuracy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas

from marble.errors import MarbleError
from marble.system.files import user_path
from marble.task import SplitRule, Task
from marble.tasks.own.labels import Targets
from marble.tasks.own.table import task_of_table
from marble.tasks.own.table_file import read_table


def _maker(
    name: str, summary: str, highest: float, labels: tuple[str, ...], label: Callable[[float], str]
) -> Callable[..., Task]:
    """Return the function from the path of a table, and perhaps a rule of its split, to the task.

    Args:
        name: of the task.
        summary: first line of the description.
        highest: the best score; the worst is 0.
        labels: the classes.
        label: from a score to its class.
    """

    def make(argument: str, rule: SplitRule | None = None) -> Task:
        """Return the task of the table at a path."""
        file, rule = user_path(argument), rule or SplitRule()
        table = read_table(file, targets=("score",), extra=rule.column)
        if "score" not in table.rows:
            raise MarbleError(f"The table {file} needs a column 'score': the mean rating of each track, 0 to {highest:g}.")
        scores = pandas.to_numeric(table.rows["score"], errors="coerce").to_numpy()
        wrong = np.flatnonzero(~((scores >= 0) & (scores <= highest)))
        if len(wrong):
            raise MarbleError(
                f"The table {file} has the score '{table.rows['score'].iloc[wrong[0]]}' in row {wrong[0] + 1}: "
                f"write a number from 0 to {highest:g}."
            )
        targets = Targets("multiclass", [label(score) for score in scores.tolist()], labels, [])
        if len(set(targets.values)) < 2:
            raise MarbleError(f"The table {file} has one class, '{targets.values[0]}': a task needs at least two.")
        return replace(
            task_of_table(table, f"{name}:{file.stem}", str(file.absolute()), rule, targets),
            description=f"{summary}\n\n{__doc__}",
            citation="the user's own data; questions of Zhou, Zhou and Chen, Layer-wise investigation of large-scale "
            "self-supervised music representation models, 2025",
        )

    return make


music_preference = _maker(
    "music-preference", "Whether listeners like a track.", 2.0, ("non-preferred", "preferred"),
    lambda score: "preferred" if score > 1 else "non-preferred",
)  # fmt: skip
rap_detection = _maker(
    "rap-detection", "Whether a track is rap, singing, or both.", 2.0, ("rap", "mix", "non-rap"),
    lambda score: "rap" if score < 0.67 else "non-rap" if score > 1.34 else "mix",
)  # fmt: skip
sound_quality = _maker(
    "sound-quality", "Whether the audio quality of a track is good.", 1.0, ("bad", "good"),
    lambda score: "good" if score > 0.5 else "bad",
)  # fmt: skip
