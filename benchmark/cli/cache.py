"""``marble cache``: list, check and clean the feature cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marble.cli.console import CacheDir, Json, print_rows, write
from marble.errors import MarbleError

if TYPE_CHECKING:
    from marble.features.cache import FeatureCache

cache_app = typer.Typer(no_args_is_help=True, help="List, check and clean the feature cache.")


@cache_app.command("ls")
def cache_ls(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List the spaces of the cache."""
    from marble.cli import listing

    print_rows(listing.spaces(_cache(cache_dir)), as_json)


@cache_app.command("verify")
def cache_verify(cache_dir: CacheDir = None) -> None:
    """Check all features and trained probes against their checksums."""
    cache = _cache(cache_dir)
    if not cache.root.is_dir():
        raise MarbleError(f"There is no cache in {cache.root.absolute()}: name its folder with --cache-dir.")
    damaged = [shard for space in cache.spaces() for shard in space.damaged()] + cache.damaged_probes()
    for path, reason in damaged:
        write(f"damaged: {path} ({reason})")
    if damaged:
        raise MarbleError(
            f"{len(damaged)} files of the cache are damaged: marble cache gc removes them, and the next run makes them again."
        )
    write(f"{len(cache.spaces())} spaces in {cache.root}: features and trained probes are as they were written")


@cache_app.command("gc")
def cache_gc(
    cache_dir: CacheDir = None,
    older_than: Annotated[float | None, typer.Option(min=0, help="Also remove spaces not used for this many days.")] = None,
) -> None:
    """Remove interrupted writes, damaged features and damaged probes."""
    removed = _cache(cache_dir).collect(older_than)
    for path, reason in removed:
        write(f"removed: {path} ({reason})")
    write(f"{len(removed)} files removed")


def _cache(cache_dir: Path | None) -> FeatureCache:
    from marble.features.cache import FeatureCache
    from marble.system.files import home

    return FeatureCache(cache_dir or home() / "cache")
