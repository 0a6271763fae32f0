"""The one exception that a user is meant to read.

Every mistake that a user can make or repair (a wrong name, a missing file, a full disk) is raised as `MarbleError` with
one sentence: what happened, where, and what to do. The command line prints that sentence without a traceback; anything
else that is raised is a defect of marble and keeps its traceback.
"""


class MarbleError(Exception):
    """A mistake that the user can repair; its text is one sentence that says what, where and what to do."""


def reason(error: OSError) -> str:
    """Return why a file could not be read or written, in lower case."""
    return (error.strerror or str(error)).lower()


def one_line(error: Exception) -> str:
    """Return the type of an error that is not marble's, and the first line of what it says."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def printable(text: str) -> str:
    """Return a text for terminals, tables and figures: control characters and their like appear as escapes, such as \\x1b."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
