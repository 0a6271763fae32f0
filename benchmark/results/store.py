"""The folder of all results: documents are read and checked against their seals.

A document that is damaged, cut short or of another schema is named in a warning and left out wherever all results are
read; the command that made it writes it again.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from pydantic import ValidationError

from marble.errors import MarbleError, reason
from marble.results.schema import SCHEMA, Result, seal_of


def read(path: Path) -> Result:
    """Return the result in a file.

    Raises:
        MarbleError: the file cannot be read, is damaged, or is no result of this schema.
    """
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise _unreadable(path, "not a JSON object")
        if document.get("seal") not in (None, seal_of(document)):
            raise MarbleError(f"{path} is damaged, its content does not match its seal: run it again or remove it.")
        if document.get("schema") != SCHEMA:
            raise MarbleError(
                f"{path} has schema {document.get('schema')}, this version reads {SCHEMA}: run it again or remove it."
            )
        return Result.model_validate(document)
    except OSError as error:
        raise _unreadable(path, reason(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "not UTF-8") from error
    except RecursionError as error:
        raise _unreadable(path, "nested too deeply") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _unreadable(path, f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error
    except ValueError as error:
        raise _unreadable(path, f"not JSON: {error}") from error


def read_all(root: Path) -> list[Result]:
    """Return all readable results below a folder, by path; each of the others is named in a warning, and they are counted.

    Raises:
        MarbleError: there is no such folder.
    """
    return read_readable(root)[0]


def read_readable(root: Path) -> tuple[list[Result], list[str]]:
    """Return what `read_all` returns, and the sentence about each of the others.

    Raises:
        MarbleError: there is no such folder.
    """
    if not root.is_dir():
        raise MarbleError(
            f"There are no results in {root.absolute()}: run something first, or name their folder with --results."
        )
    paths, results, complaints = sorted(root.glob("*/*/*-????????????.json")), [], []
    for path in paths:
        try:
            results.append(read(path))
        except MarbleError as error:
            complaints.append(str(error))
            warnings.warn(str(error), stacklevel=3)
    if complaints:
        warnings.warn(f"{len(complaints)} of {len(paths)} results in {root} are passed over.", stacklevel=3)
    return results, complaints


def find(root: Path, identity: str) -> Result | None:
    """Return the result of this identity if it is below a folder, whole, with its predictions; warn of a damaged one."""
    for path in root.glob(f"*/*/*-{identity[:12]}.json"):
        try:
            result = read(path)
            result.check_predictions(path.with_suffix(".parquet"))
        except MarbleError as error:
            warnings.warn(str(error), stacklevel=2)
            continue
        if result.identity == identity:
            return result
    return None


def _unreadable(path: Path, why: str) -> MarbleError:
    return MarbleError(f"{path} is not a result that this version reads ({why}): run it again or remove it.")
