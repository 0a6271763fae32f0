"""The one exception for users.

Every mistake that a user can make or repair (a wrong name, a missing file, a full disk) is raised as `MarbleError` with
one sentence: what happened, where, and what to do. The command line prints that sentence without a traceback; any other
exception is a defect of marble and keeps its traceback.
"""

from collections.abc import Iterable


class MarbleError(Exception):
    """A mistake that the user can repair; its text is one sentence: what, where, and what to do."""


def reason(error: OSError) -> str:
    """Return the reason of a failed read or write, in lower case."""
    return (error.strerror or str(error)).lower()


def one_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text; for errors that are not marble's."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def named_once(bad: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each bad file, from path and reason of each bad clip: the first reason, and the number of clips."""
    reasons: dict[str, list[str]] = {}
    for path, why in bad:
        reasons.setdefault(path, []).append(why)
    return [f"{path} {why[0]}" + (f" (first of {len(why)} clips of it)" if why[1:] else "") for path, why in reasons.items()]


def printable(text: str) -> str:
    """Return a text for terminals, tables and figures: characters that do not print become escapes, such as \\x1b."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
