"""What Python makes of a class when it runs, written out as source, so that mypyc compiles it too.

mypyc compiles what stands in a file. The constructor of a dataclass or a NamedTuple does not stand there, and `dataclasses.replace`
looks fields up by name each time; both would stay as slow as before. Nothing else is changed:

- a dataclass gets its `__init__` as `dataclasses` would make it (defaults, factories, `__post_init__`) and a method that copies it;
  `slots` and `frozen` are dropped (a compiled class has slots; that nobody writes to a frozen one is what mypy has checked in the
  sources), equality and hash stay those that `dataclasses` makes;
- a NamedTuple becomes a class with such an `__init__`;
- `replace` is that copy with the changes set, and so is `control.state.changed`;
- a module's constants, written in capitals, are `Final`.
"""

from __future__ import annotations

import ast

REPLACED = '''"""`dataclasses.replace` for classes whose constructor is written out."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def replace(old: T, **changes: Any) -> T:
    of: Any = old
    new = of.copied_()
    for name, value in changes.items():
        setattr(new, name, value)
    return new  # type: ignore[no-any-return]
'''
REPLACED_MODULE = "eegloop.replaced"


def written_out(source: str) -> str:
    """A module's source with what is made at run time written out."""
    tree = _Writer().visit(ast.parse(source))
    after_future = (
        next(i for i, node in enumerate(tree.body) if isinstance(node, ast.ImportFrom) and node.module == "__future__") + 1
    )
    tree.body[after_future:after_future] = ast.parse("from typing import Any, Final").body
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


class _Writer(ast.NodeTransformer):
    def visit_Module(self, node: ast.Module) -> ast.Module:
        node.body = [one for statement in node.body for one in _constants(statement)]
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        decorator = next((d for d in node.decorator_list if _name(d) == "dataclass"), None)
        named_tuple = any(_name(base) == "NamedTuple" for base in node.bases)
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        if named_tuple:
            node.bases = []
            made = _constructor(fields, ())
            for one in fields:
                one.value = None
            node.body += made
        elif decorator is not None:
            for one in fields:
                if _name(one.annotation) == "object":  # mypyc 2.4 looks for a module's global of that name
                    one.annotation = ast.Name("Any")
            options = {k.arg for k in decorator.keywords} if isinstance(decorator, ast.Call) else set()
            equal = "eq=False" if "eq" in options else "unsafe_hash=True" if "frozen" in options else ""
            plain = ast.parse(f"dataclass({equal})", mode="eval").body
            node.decorator_list = [plain if d is decorator else d for d in node.decorator_list]
            after = ("self.__post_init__()",) if any(getattr(one, "name", "") == "__post_init__" for one in node.body) else ()
            node.body += _constructor(fields, after)
            if not after and all(_parts(one.value)[0] for one in fields):
                whole = ", ".join(f"self.{one.target.id}" for one in fields if isinstance(one.target, ast.Name))
                node.body += ast.parse(f"def copied_(self) -> '{node.name}':\n    return {node.name}({whole})").body
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        if node.name == "changed" and any(_name(arg.annotation) == "_Frozen" for arg in node.args.args if arg.annotation):
            return ast.parse(f"from {REPLACED_MODULE} import replace as changed").body[0]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt]:
        if node.module != "dataclasses" or all(one.name != "replace" for one in node.names):
            return node
        rest = [one for one in node.names if one.name != "replace"]
        kept: list[ast.stmt] = [ast.ImportFrom("dataclasses", rest, 0)] if rest else []
        return [*kept, ast.ImportFrom(REPLACED_MODULE, [ast.alias("replace")], 0)]


def _name(node: ast.expr) -> str:
    """The plain name of a decorator, a base or an annotation, "" if it is another expression."""
    called = node.func if isinstance(node, ast.Call) else node
    return called.id if isinstance(called, ast.Name) else ""


def _parts(value: ast.expr | None) -> tuple[bool, ast.expr | None, ast.expr | None]:
    """Of a dataclass's field: whether the constructor has it, its default, its factory."""
    if not (isinstance(value, ast.Call) and _name(value) == "field"):
        return True, value, None
    given = {k.arg: k.value for k in value.keywords}
    init = given.get("init")
    return not (isinstance(init, ast.Constant) and init.value is False), given.get("default"), given.get("default_factory")


def _constructor(fields: list[ast.AnnAssign], after: tuple[str, ...]) -> list[ast.stmt]:
    parameters, body = ["self"], []
    for one in fields:
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        init, default, factory = _parts(one.value)
        if factory is not None:
            parameters.append(f"{name}: {kind} | None = None")
            body.append(f"self.{name} = {ast.unparse(factory)}() if {name} is None else {name}")
        elif init:
            parameters.append(f"{name}: {kind}" + ("" if default is None else f" = {ast.unparse(default)}"))
            body.append(f"self.{name} = {name}")
        elif default is not None:
            body.append(f"self.{name} = {ast.unparse(default)}")
    lines = [*body, *after] or ["pass"]
    return ast.parse(f"def __init__({', '.join(parameters)}) -> None:\n    " + "\n    ".join(lines)).body


def _constants(statement: ast.stmt) -> list[ast.stmt]:
    """A statement of a module; where it names constants, each as `Final` by itself."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id.isupper():
        statement.annotation = ast.Subscript(ast.Name("Final"), statement.annotation)
        return [statement]
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return [statement]
    target, value = statement.targets[0], statement.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = list(zip(target.elts, value.elts, strict=True))
    elif isinstance(value, ast.Tuple):
        return [statement]  # mypyc 2.4 takes a Final tuple that begins with a float for one that was never set
    if not all(isinstance(name, ast.Name) and name.id.isupper() and not _is_type(what) for name, what in pairs):
        return [statement]
    return [ast.AnnAssign(name, ast.Name("Final"), what, 1) for name, what in pairs]


def _is_type(value: ast.expr) -> bool:
    """An alias of a type, which no constant is."""
    return isinstance(value, ast.Subscript) or (isinstance(value, ast.Call) and _name(value) == "TypeVar")
