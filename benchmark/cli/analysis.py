"""``marble cca`` and ``marble compare``: the similarity of layers, and systems on the same test tracks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marble.cli.console import CacheDir, Json, ResultsDir, print_json, reporter, stdout, tell
from marble.errors import MarbleError, printable

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from marble.analysis.compare import Comparison

FigureFile = Annotated[
    Path | None,
    typer.Option("--figure", help="Write the figure to this file, .png, .svg or .pdf. [default: among the results]"),
]


def cca(
    upstream: Annotated[str, typer.Option(help="NAME[,NAME…], NAME:PATH or module:Class.")],
    task: Annotated[str, typer.Option(help="Whose clips are heard: NAME, folder:PATH, table:FILE or module:TASK.")],
    against: Annotated[
        str, typer.Option(help="input (a log-mel spectrogram), layers (of the same), or an upstream.")
    ] = "input",
    rows: Annotated[str, typer.Option(help="frames, or clips (pooled as the protocol says).")] = "frames",
    measures: Annotated[str, typer.Option(help="all, or names joined by commas; the first one is drawn.")] = "all",
    layers: Annotated[str, typer.Option(help="all, or a list such as 0,3,6..12.")] = "all",
    seed: Annotated[int, typer.Option(help="Of the order of clips, which decides the null.")] = 0,
    protocol: Annotated[str, typer.Option(help="Whose windows and pooling are used.")] = "marble",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change it, e.g. windows.seconds=5.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the datasets. [default: $MARBLE_HOME/data]")] = None,
    cache_dir: CacheDir = None,
    results: ResultsDir = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (fp32), fp32 or bf16.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many tracks of each split.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU. [default: what the process may use]")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Compare layers with the input, each other, or another upstream: PWCCA, CCA, SVCCA, CKA, Procrustes, with a null."""
    import pandas

    from marble import registry
    from marble.analysis.figures import similarity_curves, similarity_matrix
    from marble.analysis.layers import cca
    from marble.analysis.similarity import MEASURES
    from marble.results.schema import file_name, folder_of

    names = registry.split_specs(upstream, registry.complete_upstream_names(), "upstream")
    if len(names) > 1 and against != "input":
        raise MarbleError(
            f"Several upstreams are compared with the input alone: give one --upstream beside --against {against}."
        )
    chosen = MEASURES if measures == "all" else tuple(part.strip() for part in measures.split(","))
    options: dict[str, Any] = {
        "layers": layers, "protocol": protocol, "settings": settings or (), "data_root": data_root, "cache_dir": cache_dir,
        "device": device, "precision": precision, "threads": threads, "limit": limit, "offline": offline,
    }  # fmt: skip
    how: dict[str, Any] = {"rows": rows, "measures": chosen, "seed": seed, "workers": workers, "reporter": reporter()}
    table = pandas.concat([cca(name, task, against, **how, **options) for name in names], ignore_index=True)
    if as_json:
        print_json([{key: plain_number(value) for key, value in row.items()} for row in table.to_dict("records")])
    else:
        _print_similarities(table, chosen)
    drawn = measures if measures != "all" else "pwcca_morcos_first" if against == "input" else "linear_cka"
    draw = similarity_curves if against == "input" else similarity_matrix
    other = "" if against in ("input", "layers") else f"-{file_name(table['second'][0])}"
    stem = folder_of("+".join(dict.fromkeys(table["first"])), table["task"][0])
    write_figure(
        draw(table, drawn.partition(",")[0].strip()), figure, results / stem / f"cca-{against if not other else 'with'}{other}"
    )


def _print_similarities(table: pandas.DataFrame, measures: tuple[str, ...]) -> None:
    from rich.table import Column, Table

    row, upstreams = table.iloc[0], list(dict.fromkeys([*table["first"], *table["second"]]))
    names = ", ".join(name for name in upstreams if name != "input")
    printed = Table(
        "layer",
        "against",
        *(Column(measure.replace("_", " "), justify="right") for measure in measures),
        title=printable(f"{names}: similarity over {row['count']:,} {row['rows']} of {row['task']}"),
        caption="behind each value the null, the same for a permuted pairing of rows",
    )
    pairs = ["first", "first_layer", "first_name", "second", "second_layer", "second_name"]
    for pair, rows in table.groupby(pairs, sort=False):
        first, number, name, second, other, other_name = pair  # ty: ignore[not-iterable]
        value = {row["measure"]: f"{row['value']:.3f} ({row['null']:.3f})" for row in rows.to_dict("records")}
        layer = f"{number} {name}" if len(set(table["first"])) == 1 else f"{first} {number} {name}"
        against = "input" if second == "input" else f"{other} {other_name}"
        printed.add_row(printable(layer), printable(against), *(value[measure] for measure in measures))
    stdout().print(printed)


def compare(
    systems: Annotated[list[str], typer.Argument(help="Upstreams in --results, or folders with results of one: A B [C …].")],
    metric: Annotated[str | None, typer.Option(help="In place of the main metric of each task.")] = None,
    results: ResultsDir = Path("results"),
    figure: FigureFile = None,
    as_json: Json = False,
) -> None:
    """Compare systems on the same test tracks: paired intervals, permutation and McNemar tests, adjusted over tasks."""
    from marble.analysis.compare import compare
    from marble.analysis.figures import difference_intervals
    from marble.results.schema import folder_of

    comparison = compare(systems, results, metric=metric)
    for note in comparison.notes:
        tell(f"note: {note}")
    table = comparison.differences
    if as_json:
        print_json([{key: plain_number(value) for key, value in row.items()} for row in table.to_dict("records")])
    else:
        _print_differences(comparison)
    names = "+".join(dict.fromkeys([*table["first"], *table["second"]]))
    write_figure(difference_intervals(table), figure, results / f"compare-{folder_of(names, '').parts[0]}")


def _print_differences(comparison: Comparison) -> None:
    from rich.table import Table

    console, table = stdout(), comparison.differences
    places = Table("task", "metric", "system", "layer", "score", "95 % interval", "over seeds", "tie group", title="systems")
    for row in comparison.systems.to_dict("records"):
        ends = f"{_digits(row['low'])} … {_digits(row['high'])}"
        names = [str(row[name]) for name in ("task", "metric", "system", "layer")]
        cells = [*names, _digits(row["score"]), ends, _digits(row["seed_deviation"]), str(row["group"])]
        places.add_row(*map(printable, cells))
    console.print(places)
    printed = Table(
        "task", "systems", "difference", "95 % interval", "p", "McNemar", f"Holm of {len(table)}",
        "error: tracks", "seeds", "layer", "detectable",
        title="differences on the same test tracks",
        caption="interval, p and detectable difference are of the test tracks; the errors of seeds and of the choice of layer\n"
        "stand apart and are in none of them; detectable: found in 80 of 100 draws of tracks at 5 %",
    )  # fmt: skip
    for row in table.to_dict("records"):
        mark = "*" if row["significant"] else ""
        cells = (
            f"{row['task']}, {row['metric']}", f"{row['first']} less {row['second']}", f"{row['difference']:+.4f}{mark}",
            f"{row['low']:+.4f} … {row['high']:+.4f}",
            *(_digits(row[name]) for name in ("p_permutation", "p_mcnemar", "p_holm")),
            *(_digits(row[name]) for name in ("sampling_error", "seed_spread", "layer_error", "minimal_detectable")),
        )  # fmt: skip
        printed.add_row(*map(printable, cells))
    console.print(printed)


def _digits(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def write_figure(figure: Figure, file: Path | None, default: Path) -> None:
    """Write a figure to the file that was asked for, else as PNG and SVG beside the results, and print the paths.

    Raises:
        MarbleError: the file has another suffix, or cannot be written.
    """
    from marble.results.figures import save_figure

    if file and file.suffix not in (".png", ".svg", ".pdf"):
        raise MarbleError(f"{file} is no figure that marble writes: end its name in .png, .svg or .pdf.")
    written = save_figure(figure, file.with_suffix(""), [file.suffix[1:]]) if file else save_figure(figure, default)
    for path in written:
        tell(f"figure: {path}")


def plain_number(value: Any) -> Any:
    """Return a value as JSON has it: NaN is null, numbers of NumPy are plain."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value
