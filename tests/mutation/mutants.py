"""Small wrong changes of a function, one at a time: what the tests must notice. Works on syntax trees, decorated code and methods too."""

from __future__ import annotations
import __future__

import ast
import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType
from typing import NamedTuple

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_NEGATE: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.Pow: ast.Mult,
}  # fmt: skip
_SWAPPED = {"min": "max", "max": "min", "all": "any", "any": "all", "ceil": "floor", "floor": "ceil"}


class Mutant(NamedTuple):
    """One change: where it is, what it is, and what makes the function's code with it."""

    module: str
    function: str
    line: int
    what: str
    make: Callable[[], CodeType]

    @property
    def key(self) -> str:
        return f"{self.module}:{self.function}: {self.what}"


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file with its qualified name; functions inside functions belong to the outer one."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def mutants(module: str, path: Path) -> Iterator[Mutant]:
    """All mutants of a file's functions, in order."""
    for name, function in functions(path):
        seen: dict[str, int] = {}
        nodes = list(ast.walk(function))
        apart = _left_alone(function)
        for index, node in enumerate(nodes):
            if id(node) in apart:
                continue
            for what, change in _changes(node):
                line = getattr(node, "lineno", function.lineno)
                text = f"`{ast.unparse(node).splitlines()[0][:90]}`: {what}"
                seen[text] = seen.get(text, 0) + 1
                text += f" (#{seen[text]})" if seen[text] > 1 else ""
                yield Mutant(module, name, line, text, partial(_changed, function, index, change, name, path))


def _changed(function: ast.AST, index: int, change: Callable[[ast.AST], None], name: str, path: Path) -> CodeType:
    """The function's code with its `index`-th node changed."""
    changed = copy.deepcopy(function)
    change(list(ast.walk(changed))[index])
    return _compiled(changed, name, path)


def _left_alone(function: ast.AST) -> set[int]:
    """Parts whose wording is not logic: f-strings, what is raised, annotations, defaults, docstrings, nothing."""
    apart: set[int] = set()
    for node in ast.walk(function):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.JoinedStr):
            parts.append(node)
        elif isinstance(node, ast.Raise):
            parts += [node.exc, node.cause]
        elif isinstance(node, ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.arguments):
            parts += [*node.defaults, *node.kw_defaults, *(a.annotation for a in (*node.args, *node.kwonlyargs))]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.append(node)
        for part in parts:
            apart |= {id(n) for n in ast.walk(part)} if part is not None else set()
    return apart


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    """(name, in-place change) of every mutation this one node allows."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for table in (_COMPARE, _NEGATE):
                if type(op) in table:
                    yield f"{type(op).__name__} -> {table[type(op)].__name__}", _set_op(i, table[type(op)])
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{type(node.op).__name__} -> {other.__name__}", _set("op", other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not removed", _set("operand", ast.UnaryOp(ast.Not(), node.operand))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "minus removed", _set("op", ast.UAdd())
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _BINARY:
        yield f"{type(node.op).__name__} -> {_BINARY[type(node.op)].__name__}", _set("op", _BINARY[type(node.op)]())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", _set("value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield f"{node.value} -> {node.value + 1}", _set("value", node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
        yield f"{node.func.id} -> {_SWAPPED[node.func.id]}", _set("func", ast.Name(_SWAPPED[node.func.id], ast.Load()))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("ceil", "floor"):
        yield f"{node.func.attr} swapped", _set("func", ast.Attribute(node.func.value, _SWAPPED[node.func.attr], ast.Load()))
    elif isinstance(node, ast.Expr):
        yield "statement removed", _set("value", ast.Constant(None))
    elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Attribute):
        kept = ast.Attribute(node.targets[0].value, node.targets[0].attr, ast.Load())
        yield "assignment removed", _set("value", kept)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_nothing(node.value):
        yield "returns None", _set("value", ast.Constant(None))
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        if not isinstance(node, ast.While):
            yield "condition True", _set("test", ast.Constant(True))
        yield "condition False", _set("test", ast.Constant(False))


def _is_nothing(node: ast.AST) -> bool:
    """None already, or False, which nobody who asks `if` can tell from it (and which becomes True by another mutation)."""
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _set(field: str, value: object) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, value)


def _set_op(index: int, op: type[ast.cmpop]) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        assert isinstance(node, ast.Compare)
        node.ops[index] = op()

    return change


def _compiled(function: ast.AST, name: str, path: Path) -> CodeType:
    """The code object of a changed function, as it would be in its module or class."""
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    function.decorator_list = []
    body: list[ast.stmt] = [function]
    if "." in name:
        body = [ast.ClassDef(name.partition(".")[0], [], [], body, [])]
    module = ast.fix_missing_locations(ast.Module(body, []))
    code = compile(module, str(path), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    for part in name.split("."):
        code = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == part)
    return code
