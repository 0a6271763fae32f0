"""The look of figures, and their files.

- *screen*: letters of 9 points, as wide as the content asks for.
- *paper*: as wide as a column of a paper (3.35 inches), or as two (6.9) if the content does not fit; letters of 6 or 7 points.
- Colours are those of Okabe and Ito (2008), which colour-blind eyes tell apart; each goes with a marker, for print in grey.
- Names are drawn as `marble.errors.printable` writes them, so that an SVG is valid XML whatever a folder is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from marble.errors import MarbleError, printable
from marble.results.figures.scans import Scan, ordered
from marble.system.files import atomic_write

FORMATS = ("png", "svg", "pdf")
RED = "#d62728"  # of what validation chose
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LINE = 1.4  # height of a line of text to its letters
_MARKERS = "osD^vPX"
_SAVED: Any = {"svg.hashsalt": "marble", "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False}


@dataclass(frozen=True)
class Style:
    """A look: sizes of letters in points, the widths of figures in inches, and letters of the title in an inch.

    Attributes:
        widths: a figure is one of these; any where there are none.
        scale: of lines and markers.
    """

    font: float
    small: float
    widths: tuple[float, ...]
    letters: float
    scale: float

    @property
    def rc(self) -> Any:
        """The settings of matplotlib."""
        ticks = {f"{axis}tick.major.{part}": 3.5 * self.scale for axis in "xy" for part in ("size", "pad")}
        ticks |= {f"{axis}tick.major.width": 0.8 * self.scale for axis in "xy"}
        lines = {"axes.linewidth": 0.8 * self.scale, "lines.linewidth": 1.4 * self.scale, "lines.markersize": 5 * self.scale}
        small = {"xtick.labelsize": self.small, "ytick.labelsize": self.small, "legend.fontsize": self.small}
        return _SAVED | ticks | lines | small | dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), self.font)

    def width(self, wanted: float) -> float:
        """Return the width of a figure whose content asks for `wanted` inches."""
        return next((width for width in self.widths if width >= wanted), self.widths[-1]) if self.widths else wanted


STYLES = {
    "screen": Style(font=9, small=9, widths=(), letters=13.5, scale=1),
    "paper": Style(font=7, small=6, widths=(3.35, 6.9), letters=19, scale=0.6),
}


def style_of(name: str) -> Style:
    """Return a style by name.

    Raises:
        MarbleError: there is none.
    """
    if name not in STYLES:
        raise MarbleError(f"There is no style '{name}': write --style {'|'.join(STYLES)}.")
    return STYLES[name]


def look(number: int) -> dict[str, Any]:
    """Return colour and marker of a series by its number."""
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]}


def series_of(scans: Sequence[Scan]) -> list[str]:
    """Return the name of the series of each scan: its upstream, with the protocol where there are several."""
    several = len({scan.protocol for scan in scans}) > 1
    return [f"{scan.upstream}, {scan.protocol}" if several else scan.upstream for scan in scans]


def about(scans: Sequence[Scan]) -> str:
    """Return seeds, protocol and limit of some scans, in words."""
    counts = sorted({scan.seeds for scan in scans})
    text = f"mean test score of {' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
    text += f", protocol {' or '.join(ordered(scan.protocol for scan in scans))}"
    limits = ordered(str(scan.limit) for scan in scans if scan.limit)
    return text + (f", at most {' or '.join(limits)} tracks of each split" if limits else "")


def metric_of(scan: Scan) -> str:
    """Return a metric, and its direction where lower is better."""
    return printable(scan.metric) + ("" if scan.higher_is_better else " (lower is better)")


def put_title(figure: Figure, lines: Iterable[str], style: Style) -> int:
    """Write lines above a figure, folded to its width, and return how many they became."""
    letters = round(figure.get_figwidth() * style.letters)
    folded = [part for line in lines for part in wrap(printable(line), letters)]
    figure.suptitle("\n".join(folded), fontsize=style.font)
    return len(folded)


def put_legend(figure: Figure, names: Sequence[str], style: Style) -> int:
    """Write the legend of the series below a figure, by their numbers, in as many columns as fit; return its lines."""
    handles = [Line2D([], [], label=printable(name), **look(number)) for number, name in enumerate(names)]
    letters = max(len(name) for name in names) + 6
    columns = max(1, min(len(handles), int(figure.get_figwidth() * style.letters / letters)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return -(-len(handles) // columns)


def put_words(figure: Figure, lines: Iterable[str], names: Sequence[str], style: Style) -> None:
    """Write title and legend around the panels of a figure, which grows by their height."""
    number = put_title(figure, lines, style) + put_legend(figure, names, style)
    figure.set_figheight(figure.get_figheight() + number * style.font * _LINE / 72)


def panels(titles: Mapping[str, str], style: Style) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each task, two in the width of a column and up to four on a screen.

    Args:
        titles: what stands below the name of each task.
        style: of the figure.
    """
    names = list(titles)
    most = 2 if style.widths else min((4, 3), key=lambda columns: -len(names) % columns)
    columns = min(len(names), most)
    width = style.width(3.2 * columns if not style.widths else 0)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(width, rows * max(width / columns * 0.7, 1.35)), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in every[len(names) :]:
        unused.remove()
    for name, axes in zip(names, every, strict=False):
        axes.set_title(f"{printable(name)}\n{titles[name]}")
        axes.grid(color="0.9", linewidth=0.5)
        axes.set_axisbelow(True)
    return figure, dict(zip(names, every, strict=False))


@rc_context(_SAVED)
def save_figure(figure: Figure, path: Path | str, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure in some formats (PNG at 200 dpi, 400 for the width of a column); return their paths.

    Args:
        figure: drawn by this package.
        path: without extension.
        formats: some of `FORMATS`.

    Raises:
        MarbleError: there is no such format, the disk is full or the folder cannot be written.
    """
    for unknown in (form for form in formats if form not in FORMATS):
        raise MarbleError(f"There is no figure in '{unknown}': write --format with some of {','.join(FORMATS)}.")
    path, written = Path(path), []
    for form in formats:
        target = path.with_name(f"{path.name}.{form}")
        metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form]
        dpi = 400 if figure.get_figwidth() in STYLES["paper"].widths else 200
        with atomic_write(target) as beside:
            figure.savefig(beside, format=form, dpi=dpi, metadata=metadata)
        written.append(target)
    return written
