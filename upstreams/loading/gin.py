"""Reads the values of a gin configuration file as data: nothing is imported, called or executed.

Conventions
-----------
- A statement is ``selector = value``, or stands indented below ``Class:``; it goes on where brackets are open or a line ends
  with a backslash. ``import`` and ``include`` statements are skipped, so what they would bring is missing when asked for.
- A value is a Python literal that may hold references (``@some.Thing``, kept as text with their ``@``) and macros (``%name``,
  replaced by the value of the statement ``name = …`` or ``name/macro.value = …``, wherever in the file that stands). A value
  whose macro is not defined is missing when it is asked for.
- Of a selector the last two parts count: ``nets.conformer.Conformer.depth`` becomes ``Conformer.depth``, which is missing where
  the classes of two modules have it. A macro keeps its bare name. What is bound in a scope (``scope/Conformer.depth``) holds
  for calls in that scope alone and is skipped.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marble.errors import MarbleError
from marble.upstreams.loading.weights import Settings

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.ENDMARKER}
_MISSING = object()


class _Macro(str):
    """The name of a macro that stands for a value."""

    __slots__ = ()


# What a parameter is bound to that the classes of two modules have: a macro that no file can define.
_AMBIGUOUS = _Macro("of two modules")


def read_gin(path: Path) -> Settings:
    """Return the bindings of a gin file by ``Class.parameter``, macros resolved.

    Raises:
        MarbleError: a statement cannot be read as data.
    """
    bindings: dict[str, Any] = {}
    selectors: dict[str, str] = {}
    try:
        for selector, tokens in _statements(path.read_text(encoding="utf-8")):
            value, selector = _value(tokens), selector.removesuffix("/macro.value")
            if "/" in selector:
                continue
            name = ".".join(selector.split(".")[-2:])
            known = selectors.setdefault(name, selector)
            same = f".{known}".endswith(f".{selector}") or f".{selector}".endswith(f".{known}")
            selectors[name] = max(known, selector, key=len)
            bindings[name] = value if same and bindings.get(name) != _AMBIGUOUS else _AMBIGUOUS
        resolved = {name: _resolve(value, bindings, ()) for name, value in bindings.items()}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise MarbleError(f"{path} cannot be read as a gin file ({error}): download it again.") from error
    return Settings({name: value for name, value in resolved.items() if value is not _MISSING}, path)


def _statements(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the selector and the tokens of the value of each binding; gin shares Python's tokens, comments and blocks."""
    statement: list[str] = []
    block = ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.DEDENT:
            block = ""
        elif token.type != tokenize.NEWLINE:
            statement += [] if token.type in _LAYOUT else [token.string]
        elif "=" in statement:
            end = statement.index("=")
            yield block + "".join(statement[:end]), statement[end + 1 :]
            statement = []
        elif statement[-1] == ":":
            block, statement = "".join(statement[:-1]) + ".", []
        elif statement[0] in {"import", "include", "from"}:
            statement = []
        else:
            raise ValueError(f"'{' '.join(statement)}' binds nothing")


def _value(tokens: list[str]) -> Any:
    """Return the literal that tokens spell, references as text and macros as `_Macro`."""
    source: list[str] = []
    names: list[str] = []
    inside = False
    for token in tokens:
        if token in {"@", "%"}:
            source.append(f"_{len(names)}")
            names.append(token)
            inside = True
        elif inside and (token in {".", "/"} or names[-1][-1] in "@%./"):
            names[-1] += token
        elif token.isidentifier() and token not in {"None", "True", "False"}:
            raise ValueError(f"'{token}' is neither a value nor a reference")
        else:
            inside = False
            source.append(token)
    tree = ast.parse(" ".join(source), mode="eval")
    return ast.literal_eval(_References(names).visit(tree))


class _References(ast.NodeTransformer):
    """Puts references and macros, as constants, where `_value` left placeholders."""

    def __init__(self, names: list[str]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Return a macro, or the name itself as text."""
        name = self.names[int(node.id[1:])]
        return ast.Constant(_Macro(name[1:]) if name[0] == "%" else name)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return a call without arguments as text; nothing is called."""
        called = self.visit(node.func)
        if node.args or node.keywords or not isinstance(called, ast.Constant):
            raise ValueError("it holds a call")
        return ast.Constant(f"{called.value}()")


def _resolve(value: Any, bindings: dict[str, Any], seen: tuple[str, ...]) -> Any:
    """Return a value with the macros inside it replaced by theirs; `_MISSING` where one is not defined."""
    if isinstance(value, _Macro):
        if value in seen:
            raise ValueError(f"the macro %{value} is its own value")
        return _resolve(bindings.get(value, _MISSING), bindings, (*seen, value))
    if isinstance(value, list | tuple):
        items = [_resolve(item, bindings, seen) for item in value]
        return _MISSING if _MISSING in items else type(value)(items)
    if isinstance(value, dict):
        keys, items = (_resolve(list(part), bindings, seen) for part in (value, value.values()))
        return _MISSING if _MISSING in (keys, items) else dict(zip(keys, items, strict=True))
    return value
