"""Read settings of a gin configuration file by pattern, as data: nothing is imported, called or executed.

Conventions
-----------
- A statement is ``selector = value`` that begins in the first column. Its value is a number, a text in one line, True, False,
  None, a reference (``@some.Thing``, kept as text with its ``@``) or a macro (``%name``, replaced by the value of the statement
  ``name = …``, which is no macro). Any other value, such as a list, is missing when it is asked for; a value that begins with a
  name is an error.
- The last two parts of a selector count: ``nets.conformer.Conformer.depth`` becomes ``Conformer.depth``, which is missing where
  the classes of two modules have it. A macro keeps its bare name. A binding in a scope (``scope/Conformer.depth``) holds
  for calls in that scope alone and is skipped.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from marble.errors import MarbleError
from marble.upstreams.loading.weights import Settings, read_text

_STATEMENT = re.compile(r"^([A-Za-z_][\w./]*)[ \t]*=[ \t]*(.*)", re.MULTILINE)
_VALUE = re.compile(r"""(None|True|False|[-+]?[\d.][\w.+-]*|'[^'\\]*'|"[^"\\]*"|[@%][\w./]+(?:\(\))?)\s*(?:\#.*)?""")


def read_gin(path: Path) -> Settings:
    """Return the bindings of a gin file by ``Class.parameter``, macros resolved.

    Raises:
        MarbleError: the file is not text, too long, or holds a value that is not data.
    """
    texts: dict[str, str] = {}
    selectors: dict[str, set[str]] = {}
    for selector, text in _STATEMENT.findall(read_text(path).replace("\\\n", " ")):
        selector = selector.removesuffix("/macro.value")
        if "/" in selector:
            continue
        value = _VALUE.fullmatch(text)
        if value is None and text[:1].isidentifier():
            raise MarbleError(f"{path} cannot be read as a gin file ('{text[:40]}' is no value): download it again.")
        name = ".".join(selector.split(".")[-2:])
        texts[name] = value[1] if value else ""
        selectors.setdefault(name, set()).add(selector)
    resolved = {name: texts.get(text[1:], "") if text[:1] == "%" else text for name, text in texts.items()}
    known = {name: text for name, text in resolved.items() if text and text[0] != "%" and _is_same_parameter(selectors[name])}
    try:
        values = {name: text if text[0] == "@" else ast.literal_eval(text) for name, text in known.items()}
    except (ValueError, SyntaxError) as error:
        raise MarbleError(f"{path} cannot be read as a gin file ({error}): download it again.") from error
    return Settings(values, path)


def _is_same_parameter(selectors: set[str]) -> bool:
    """Tell whether selectors name one parameter, more or less in full."""
    longest = max(selectors, key=len)
    return all(f".{longest}".endswith(f".{selector}") for selector in selectors)
