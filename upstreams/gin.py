"""Reads the values of a gin configuration file as data: nothing is imported, called or executed.

Conventions
-----------
- A statement is ``selector = value``; it goes on where brackets are open or a line ends with a backslash. ``import`` and
  ``include`` statements are skipped, so what they would bring is missing when it is asked for.
- A value is a Python literal that may hold references (``@some.Thing``, kept as text with their ``@``) and macros (``%name``,
  replaced by the value of the statement ``name = …``, wherever in the file that stands).
- Of a selector only the last two parts count: ``nets.conformer.Conformer.depth`` and ``scope/Conformer.depth`` both become
  ``Conformer.depth``. A macro keeps its bare name.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marble.errors import MarbleError
from marble.upstreams.weights import Settings

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class _Macro(str):
    """The name of a macro that stands for a value."""

    __slots__ = ()


def read_gin(path: Path) -> Settings:
    """Return the bindings of a gin file by ``Class.parameter``, macros resolved.

    Raises:
        MarbleError: a statement cannot be read as data, or a macro is not defined.
    """
    bindings: dict[str, Any] = {}
    try:
        for statement in _statements(path.read_text(encoding="utf-8")):
            if statement[0] in {"import", "include", "from"}:
                continue
            end = statement.index("=")
            selector = "".join(statement[:end]).replace("/", ".").split(".")
            bindings[".".join(selector[-2:])] = _value(statement[end + 1 :])
        resolved = {name: _resolve(value, bindings, ()) for name, value in bindings.items()}
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise MarbleError(f"{path} cannot be read as a gin file ({error}): download it again.") from error
    return Settings(resolved, path)


def _statements(text: str) -> Iterator[list[str]]:
    """Yield the tokens of one statement after another; gin shares Python's tokens, comments and line continuations."""
    statement: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            yield statement
            statement = []
        elif token.type not in _LAYOUT:
            statement.append(token.string)


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
    """Replace macros inside a value by theirs."""
    if isinstance(value, _Macro):
        if value in seen or value not in bindings:
            raise ValueError(f"the macro %{value} is {'its own value' if value in seen else 'not defined'}")
        return _resolve(bindings[value], bindings, (*seen, value))
    if isinstance(value, list | tuple):
        return type(value)(_resolve(item, bindings, seen) for item in value)
    if isinstance(value, dict):
        return {_resolve(key, bindings, seen): _resolve(item, bindings, seen) for key, item in value.items()}
    return value
