"""Figures of results: heatmap, curve, radar, weights, shots; and the curves of a pretraining.

Each takes results, or a table of them as `marble.results.load` returns it, and returns the figure of matplotlib, which
`save_figure` writes. No result is chosen anew: test scores are those of the layer that validation chose, or of all layers.
"""

from marble.results.figures.few_shots import shots
from marble.results.figures.layer_curve import curve
from marble.results.figures.layer_heatmap import heatmap
from marble.results.figures.layer_weights import weights
from marble.results.figures.pretraining import training_curve
from marble.results.figures.style import FORMATS, STYLES, save_figure
from marble.results.figures.task_radar import radar

__all__ = ["FORMATS", "STYLES", "curve", "heatmap", "radar", "save_figure", "shots", "training_curve", "weights"]
