"""The command line: a thin shell over the functions of the package.

Nothing heavy is imported before a command runs, so that ``marble --help`` answers at once. Results and tables go to stdout,
everything else to stderr; with ``--json`` stdout holds one JSON array and nothing else. Exit status: 0 done, 1 something failed
(one sentence on stderr), 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marble.cli.console import Json, print_rows, reporter, stdout
from marble.cli.data import data_app
from marble.cli.pretrain import pretrain
from marble.errors import MarbleError

if TYPE_CHECKING:
    from marble.jobs.many import Outcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Measures what a frozen music model knows, layer by layer.",
    epilog="Start with: marble run --upstream fbank-chroma --task synth-pitch --layers all",
)
cache_app = typer.Typer(no_args_is_help=True, help="Look after the feature cache.")
app.add_typer(cache_app, name="cache")
app.add_typer(data_app, name="data")
app.command(epilog="Example: marble pretrain branchformer-summarymixing-tiny --data my-music --probe synth-key")(pretrain)

ResultsDir = Annotated[Path, typer.Option("--results", help="Folder of all results.")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", help="Folder of features and probes. [default: $MARBLE_HOME/cache]")
]


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit status 1."""
    warnings.showwarning = _show_warning  # ty: ignore[invalid-assignment]
    warnings.simplefilter("once", UserWarning)  # one task is read for every upstream
    try:
        app()
    except MarbleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


@app.command(epilog="Example: marble run --upstream fbank-chroma --task folder:my-sounds --layers all --seeds 5")
def run(
    upstream: Annotated[str, typer.Option(help="NAME[,NAME…], NAME:PATH, module:Class, or all.")],
    task: Annotated[str, typer.Option(help="NAME[,NAME…], suite:NAME, folder:PATH, table:FILE, module:TASK, or all.")],
    manifest: Annotated[
        str | None, typer.Option(help="Clips of the task from a MARBLE v2 JSONL file or folder, a dataset folder, or hf:NAME.")
    ] = None,
    layers: Annotated[str, typer.Option(help="all, weighted, or a list such as 0,3,6..12 (joined by commas).")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 5,
    protocol: Annotated[str, typer.Option(help="How probes are trained and chosen.")] = "marble",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change the protocol, e.g. probe.hidden=256.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the datasets. [default: $MARBLE_HOME/data]")] = None,
    cache_dir: CacheDir = None,
    results: ResultsDir = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (fp32), fp32 or bf16.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many tracks of each split, for a quick look.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Decoding processes.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print clips, hours, gigabytes and minutes, encode nothing.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Accept that bad clips are left out.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never reach for the network.")] = False,
    as_json: Json = False,
) -> None:
    """Probe the layers of upstreams on tasks. The same command continues a run that was stopped."""
    options: dict[str, Any] = {
        "layers": layers, "seeds": seeds, "protocol": protocol, "settings": settings or (), "data_root": data_root,
        "cache_dir": cache_dir, "device": device, "precision": precision, "limit": limit, "offline": offline,
        "manifest": manifest, "plan": plan, "workers": workers, "skip_bad": skip_bad, "results": results,
    }  # fmt: skip
    try:
        from marble import registry

        upstreams = registry.split_specs(upstream, registry.complete_upstream_names(), "upstream")
        tasks = registry.split_specs(task, registry.complete_task_names(), "task")
        _run_all(upstreams, tasks, options, as_json)
    except KeyboardInterrupt:
        print("stopped: the same command continues where this one was", file=sys.stderr)
        raise typer.Exit(130) from None


def _run_all(upstreams: list[str], tasks: list[str], options: dict[str, Any], as_json: bool) -> None:
    from marble.jobs.many import run_all
    from marble.results.leaderboard import outcome_table, result_table

    outcomes: list[Outcome] = []
    for outcome in run_all(upstreams, tasks, reporter=reporter(), **options):
        outcomes.append(outcome)
        if outcome.result and not as_json:
            stdout().print(result_table(outcome.result))
        for clip in outcome.result.bad_clips if outcome.result else []:
            print(f"bad clip: {clip.path} {clip.reason}", file=sys.stderr)
        if outcome.complaint:
            word = "error" if outcome.failed else "left out"
            print(f"{word}: {outcome.upstream} on {outcome.task}: {outcome.complaint}", file=sys.stderr)
    if options["plan"]:
        print_rows([outcome.plan for outcome in outcomes if outcome.plan], as_json)
    elif as_json:
        print(json.dumps([outcome.result.document() for outcome in outcomes if outcome.result], indent=1))
    elif len(outcomes) > 1:
        stdout().print(outcome_table(outcomes))
    if any(outcome.result for outcome in outcomes):
        try:
            _draw_heatmaps(options["results"])
        except MarbleError as error:  # an old file; what was asked for is done
            print(f"warning: no heatmap is drawn, since {error}", file=sys.stderr)
    failed, asked = sum(outcome.failed for outcome in outcomes), sum(outcome.in_marble for outcome in outcomes)
    if failed:
        if asked > 1:
            print(f"error: {failed} of {asked} runs failed.", file=sys.stderr)
        raise typer.Exit(1)


@app.command()
def ls(
    kind: Annotated[str, typer.Argument(help="upstreams, tasks, suites, recipes, protocols or results.")],
    results: ResultsDir = Path("results"),
    as_json: Json = False,
) -> None:
    """List upstreams, tasks, suites, recipes, protocols or results."""
    from marble.cli import listing

    kinds = {
        "upstreams": listing.upstreams,
        "tasks": listing.tasks,
        "suites": listing.suites,
        "recipes": listing.recipes,
        "protocols": listing.protocols,
        "results": lambda: listing.results(results),
    }
    if kind not in kinds:
        raise MarbleError(f"There is no list of '{kind}': write marble ls {'|'.join(kinds)}.")
    print_rows(kinds[kind](), as_json)


@app.command()
def info(
    kind: Annotated[str, typer.Argument(help="upstream, task, suite or recipe.")],
    name: Annotated[str, typer.Argument()],
    as_json: Json = False,
) -> None:
    """Show what is known about an upstream, a task, a suite or a recipe."""
    from marble.cli import listing

    kinds = {"upstream": listing.upstream, "task": listing.task, "suite": listing.suite, "recipe": listing.recipe}
    if kind not in kinds:
        raise MarbleError(f"There is no '{kind}' to tell about: write marble info {'|'.join(kinds)} NAME.")
    document = kinds[kind](name)
    if as_json:
        print(json.dumps([document], indent=1))
        return
    for key, value in document.items():
        print(f"{key.replace('_', ' ')}: {listing.plain(value)}")


@app.command()
def check(
    upstream: Annotated[str, typer.Option(help="NAME, NAME:PATH or module:Class.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    offline: Annotated[bool, typer.Option("--offline", help="Never reach for the network.")] = False,
    as_json: Json = False,
) -> None:
    """Run an upstream on noise and explain every promise that it breaks."""
    from marble import registry
    from marble.jobs.check import check_upstream
    from marble.machine import choose_device

    model = registry.load_upstream(upstream, offline=offline).prepare(choose_device(device), precision)
    checks = []
    for found in check_upstream(model):
        checks.append(vars(found))
        if not as_json:
            print(f"{'ok    ' if found.holds else 'BROKEN'}  {found.promise}: {found.seen}")
    if as_json:
        print(json.dumps(checks, indent=1))
    broken = sum(not one["holds"] for one in checks)
    if broken:
        raise MarbleError(
            f"{upstream} breaks {broken} of {len(checks)} promises: see above, and the contract in marble.upstream."
        )


@app.command()
def heatmap(results: ResultsDir = Path("results")) -> None:
    """Draw layers × tasks for every upstream with results, as PNG and SVG."""
    if not _draw_heatmaps(results):
        raise MarbleError(
            f"There are no results in {results.absolute()}: run something first, or name their folder with --results."
        )


@app.command()
def leaderboard(
    results: ResultsDir = Path("results"),
    form: Annotated[str, typer.Option("--format", help="csv.")] = "csv",
    synthetic: Annotated[bool, typer.Option("--synthetic", help="The synthetic tasks instead of real data.")] = False,
    with_published: Annotated[
        bool, typer.Option("--with-published", help="Add the numbers of the papers, marked and after the measured ones.")
    ] = False,
) -> None:
    """Print the selected layer of every result, best first within each task and protocol."""
    from marble.results.leaderboard import leaderboard as table
    from marble.results.schema import read_all

    if form != "csv":
        raise MarbleError(f"There is no leaderboard in '{form}': write --format csv.")
    if synthetic and with_published:
        raise MarbleError("Papers publish nothing about the synthetic tasks: leave out --synthetic or --with-published.")
    board = table(read_all(results), synthetic=synthetic, with_published=with_published)
    print(board.to_csv(index=False), end="")


@cache_app.command("ls")
def cache_ls(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List what the cache holds."""
    from marble.cli import listing

    print_rows(listing.spaces(_cache(cache_dir)), as_json)


@cache_app.command("verify")
def cache_verify(cache_dir: CacheDir = None) -> None:
    """Check all features and trained probes against their checksums."""
    cache = _cache(cache_dir)
    if not cache.root.is_dir():
        raise MarbleError(f"There is no cache in {cache.root.absolute()}: name its folder with --cache-dir.")
    damaged = [found for space in cache.spaces() for found in space.damaged()] + cache.damaged_probes()
    for path, reason in damaged:
        print(f"damaged: {path} ({reason})")
    if damaged:
        raise MarbleError(
            f"{len(damaged)} files of the cache are damaged: marble cache gc removes them, and the next run makes them anew."
        )
    print(f"{len(cache.spaces())} spaces in {cache.root}: features and trained probes are as they were written")


@cache_app.command("gc")
def cache_gc(
    cache_dir: CacheDir = None,
    older_than: Annotated[float | None, typer.Option(min=0, help="Also remove spaces not used for this many days.")] = None,
) -> None:
    """Remove interrupted writes, damaged features and damaged probes."""
    removed = _cache(cache_dir).collect(older_than)
    for path, reason in removed:
        print(f"removed: {path} ({reason})")
    print(f"{len(removed)} files removed")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _draw_heatmaps(results: Path) -> list[Path]:
    """Draw one heatmap for each upstream and protocol below `results`, and say where."""
    from marble.cli.listing import by_upstream
    from marble.results.figures import heatmap as draw
    from marble.results.figures import save_figure

    paths = [path for stem, group in by_upstream(results) for path in save_figure(draw(group), stem)]
    for path in paths:
        print(f"heatmap: {path}", file=sys.stderr)
    return paths


def _cache(cache_dir: Path | None) -> Any:
    from marble.features.cache import FeatureCache
    from marble.files import home

    return FeatureCache(cache_dir or home() / "cache")
