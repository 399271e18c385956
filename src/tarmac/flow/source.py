"""What a step's code is: the function and everything of the project that it calls, transitively, without importing it.

A *part* is a function, a class or a module constant. Its digest is that of its syntax tree without comments, layout
and docstrings; the parts that a part names are found in the trees of their modules. What comes from elsewhere is a
package, and counts by its version.
"""

from __future__ import annotations

import ast
import linecache
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from blake3 import blake3

Stamp = tuple[int, int]
Function = ast.FunctionDef | ast.AsyncFunctionDef
DIGITS = 32
LONGEST_CONSTANT = 100_000
MAIN = "__main__"


@dataclass(frozen=True, slots=True)
class Part:
    """A function, class or constant of the project."""

    label: str
    digest: str
    file: str
    line: int
    text: str


@dataclass(slots=True)
class Closure:
    """All the code of one step."""

    parts: dict[str, Part] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)
    files: dict[str, Stamp] = field(default_factory=dict)
    """Its files, with time and size of each as it was read."""


@dataclass(slots=True)
class Module:
    """A module of the project as its text has it."""

    name: str
    file: str
    stamp: Stamp
    lines: list[str]
    bindings: dict[str, list[ast.stmt]]
    imports: dict[str, tuple[str, str]]
    stars: list[str]
    changed_names: set[str]
    by_line: dict[tuple[int, str], ast.stmt]
    done: dict[int, tuple[str, list[tuple[str, ...]], dict[str, tuple[str, str]]]] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------- what is ours


@cache
def _foreign() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    here = str(Path(__file__).parents[1])
    return tuple({f"{place}/" for place in (paths["stdlib"], paths["platstdlib"], here)})


@lru_cache(maxsize=4096)
def is_ours(file: str) -> bool:
    """Whether a file is the project's own: neither Python's nor installed."""
    return not (file.startswith((*_foreign(), "<")) or "/site-packages/" in file or "/dist-packages/" in file)


def find_file(name: str) -> str | None:
    """The file of a module of the project; None for everything else. Nothing is imported."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        file = getattr(loaded, "__file__", None)
        return file if file and file.endswith(".py") and is_ours(file) else None
    return _search(name, tuple(sys.path))


@lru_cache(maxsize=1024)
def _search(name: str, places: tuple[str, ...]) -> str | None:
    """Where a module lies that has not been imported."""
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names:
        return None
    spec = PathFinder.find_spec(top, list(places))
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    if spec.origin is not None and not is_ours(spec.origin):
        return None
    if not rest:
        return spec.origin if spec.origin and spec.origin.endswith(".py") else None
    for place in spec.submodule_search_locations or ():
        path = Path(place).joinpath(*rest.split("."))
        for found in (path.with_suffix(".py"), path / "__init__.py"):
            if found.is_file() and is_ours(str(found)):
                return str(found)
    return None


# ---------------------------------------------------------------------------------------------------- reading modules

_modules: dict[str, Module] = {}


def read(name: str) -> Module | None:
    """A module of the project, read anew when its file has changed."""
    file = find_file(name)
    if file is None:
        return None
    try:
        stamp = stamp_of(file)
        known = _modules.get(name)
        if known is not None and known.stamp == stamp and known.file == file:
            return known
        text = Path(file).read_text(encoding="utf-8")
        module = parse(name, file, text, stamp)
    except (OSError, SyntaxError, ValueError):
        return None
    _modules[name] = module
    return module


def stamp_of(file: str) -> Stamp:
    facts = Path(file).stat()
    return facts.st_mtime_ns, facts.st_size


def parse(name: str, file: str, text: str, stamp: Stamp = (0, 0)) -> Module:
    tree = ast.parse(text)
    module = Module(name, file, stamp, text.splitlines(), {}, {}, [], set(), {})
    package = name if Path(file).name == "__init__.py" else name.rpartition(".")[0]
    for statement in _top(tree.body):
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            found, stars = imported(statement, package)
            module.imports.update(found)
            module.stars += stars
        else:
            for bound in _bound_by(statement):
                module.bindings.setdefault(bound, []).append(statement)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            module.changed_names.update(node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
            module.by_line[first, node.name] = node
    return module


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those below `if` and `try` as well."""
    for statement in body:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from _top(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top(handler.body)


def _bound_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    elif isinstance(statement, (ast.AugAssign, ast.AnnAssign, ast.For)):
        targets = [statement.target]
    else:
        return []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def imported(node: ast.Import | ast.ImportFrom, package: str) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """What an import binds, as (module, attribute), and the modules of which it takes everything."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: (
                alias.name if alias.asname else alias.name.partition(".")[0],
                "",
            )
            for alias in node.names
        } | {f"\0{alias.name}": (alias.name, "") for alias in node.names}, []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    if any(alias.name == "*" for alias in node.names):
        return {}, [base]
    return {alias.asname or alias.name: (base, alias.name) for alias in node.names}, []


# ------------------------------------------------------------------------------------------------------- the closure


def closure(function: FunctionType) -> Closure:
    """The code that a step is, with the functions that it has from where it was made."""
    found = Closure()
    work: list[tuple[Module, ast.stmt, str]] = []
    seen: set[tuple[str, int]] = set()
    for one in _enclosed(function):
        module, node = locate(one)
        if module is not None and node is not None:
            work.append((module, node, one.__qualname__))
        elif is_ours(one.__code__.co_filename) or one is function:
            _without_source(one, found)
        else:
            found.packages.add(one.__module__.partition(".")[0])
    while work:
        module, node, name = work.pop()
        if (module.name, id(node)) in seen:
            continue
        seen.add((module.name, id(node)))
        found.files[module.file] = module.stamp
        digest, chains, local = _facts(module, node)
        label = f"{label_of(module)}:{name}"
        _keep(found, Part(label, digest, module.file, node.lineno, _text(module, node)))
        for chain in chains:
            _follow(module, chain, local, found, work)
    return found


def _enclosed(function: FunctionType) -> list[FunctionType]:
    """A function and those it remembers: what a decorator has wrapped is one of them."""
    found, todo = list[FunctionType](), [function]
    while todo:
        one = todo.pop()
        if one in found:
            continue
        found.append(one)
        for cell in one.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            inner = getattr(value, "function", value)  # a step is one, too
            if isinstance(inner, FunctionType):
                todo.append(inner)
    return found


def _keep(found: Closure, part: Part) -> None:
    if part.label in found.parts and found.parts[part.label].digest != part.digest:  # one name, two definitions
        part = Part(f"{part.label}@{part.digest[:6]}", part.digest, part.file, part.line, part.text)
    found.parts[part.label] = part


def locate(function: FunctionType) -> tuple[Module | None, ast.stmt | None]:
    """The statement that defines a function, and the module it stands in."""
    code = function.__code__
    module = read(function.__module__)
    if module is None or module.file != code.co_filename:
        text = "".join(linecache.getlines(code.co_filename))
        try:
            module = parse(function.__module__, code.co_filename, text) if text else None
        except (SyntaxError, ValueError):
            module = None
    if module is None:
        return None, None
    node = module.by_line.get((code.co_firstlineno, code.co_name))
    if node is None:  # the file has changed since it was imported
        node = next((n for (_, name), n in module.by_line.items() if name == code.co_name), None)
    return module, node


def label_of(module: Module) -> str:
    """What a module is called when it is imported, also while it runs as a script."""
    return Path(module.file).stem if module.name == MAIN else module.name


def _without_source(function: FunctionType, found: Closure) -> None:
    """Typed into a console: what is left of it is its bytecode."""
    code = function.__code__
    facts = (code.co_code.hex(), repr(code.co_consts), code.co_names, repr(function.__defaults__))
    label = f"{function.__module__}:{function.__qualname__}"
    found.parts[label] = Part(label, blake3(repr(facts).encode()).hexdigest()[:DIGITS], code.co_filename, 0, "")


def _facts(module: Module, node: ast.stmt) -> tuple[str, list[tuple[str, ...]], dict[str, tuple[str, str]]]:
    """Of a definition: its digest, the dotted names it uses, and what it imports itself; found out once."""
    known = module.done.get(id(node))
    if known is None:
        names = Names(module)
        names.visit(node)
        digest = blake3(ast.dump(_bare(module, node)).encode()).hexdigest()[:DIGITS]
        known = module.done[id(node)] = digest, sorted(names.chains), names.imports
    return known


def _bare(module: Module, node: ast.stmt) -> ast.stmt:
    """Without docstrings, and without tarmac's own decorators: how often a step is tried again is no part of it."""
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = inner.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                inner.body = inner.body[1:] or [ast.copy_location(ast.Pass(), first)]
            inner.decorator_list = [one for one in inner.decorator_list if not _is_tarmacs(module, one)]
    return node


def _is_tarmacs(module: Module, decorator: ast.expr) -> bool:
    chain = _chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
    if not chain or chain[0] not in module.imports:
        return False
    return module.imports[chain[0]][0].partition(".")[0] == "tarmac"


def _text(module: Module, node: ast.stmt) -> str:
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return "\n".join(module.lines[first - 1 : node.end_lineno])


def _follow(
    module: Module,
    chain: tuple[str, ...],
    local: dict[str, tuple[str, str]],
    found: Closure,
    work: list[tuple[Module, ast.stmt, str]],
) -> None:
    """Take up what a dotted name, used in a module, stands for."""
    head, rest = chain[0], chain[1:]
    if head in local:
        _through_import(local[head], rest, found, work)
    elif head in module.bindings:
        _bound(module, head, found, work)
    elif head in module.imports:
        _through_import(module.imports[head], rest, found, work)
    else:
        for star in module.stars:
            other = read(star)
            if other is not None and (head in other.bindings or head in other.imports):
                _follow(other, chain, {}, found, work)
                return
            if other is None and _is_package(star):
                found.packages.add(star.partition(".")[0])


def _through_import(
    binding: tuple[str, str],
    rest: tuple[str, ...],
    found: Closure,
    work: list[tuple[Module, ast.stmt, str]],
) -> None:
    name, attribute = binding
    chain = (attribute, *rest) if attribute else rest
    module = read(name)
    while module is not None and chain and chain[0] not in module.bindings and chain[0] not in module.imports:
        below = find_file(f"{name}.{chain[0]}")
        if below is None:
            break
        name, chain = f"{name}.{chain[0]}", chain[1:]
        module = read(name)
    if module is None:
        if chain and find_file(f"{name}.{chain[0]}"):  # a package without an __init__.py
            _through_import((f"{name}.{chain[0]}", ""), chain[1:], found, work)
        elif _is_package(name):
            found.packages.add(name.partition(".")[0])
        return
    found.files[module.file] = module.stamp
    if chain:
        _follow(module, chain, {}, found, work)
        return
    label = f"{label_of(module)}:*"  # the module itself is handed about: all of it counts
    text = "\n".join(module.lines)
    digest = blake3(ast.dump(ast.parse(text)).encode()).hexdigest()[:DIGITS]
    found.parts[label] = Part(label, digest, module.file, 1, text)


def _bound(module: Module, name: str, found: Closure, work: list[tuple[Module, ast.stmt, str]]) -> None:
    """A name that its module defines: a function or class, or a constant by its value or else by how it is made."""
    statements = module.bindings[name]
    if not all(isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for one in statements):
        value = _constant(module, name)
        if value is not None:
            label = f"{label_of(module)}:{name}"
            digest = blake3(value.encode()).hexdigest()[:DIGITS]
            found.files[module.file] = module.stamp
            found.parts[label] = Part(label, digest, module.file, statements[-1].lineno, f"{name} = {value}"[:2000])
            return
    work += [(module, one, name) for one in statements]


PLAIN = (bool, int, float, complex, str, bytes, type(None))


def _constant(module: Module, name: str) -> str | None:
    """The value of a module's constant as text, if it is a plain one that nothing changes."""
    loaded = sys.modules.get(module.name)
    if name in module.changed_names or not isinstance(loaded, ModuleType) or name not in vars(loaded):
        return None
    return _plain(vars(loaded)[name], 0)


def _plain(value: Any, depth: int) -> str | None:
    kind = type(value)
    if kind in PLAIN:
        text = repr(value)
        return text if len(text) <= LONGEST_CONSTANT else blake3(text.encode("utf-8", "replace")).hexdigest()
    if depth > 20:
        return None
    if kind in (tuple, list, set, frozenset):
        items = [_plain(item, depth + 1) for item in value]
        if any(item is None for item in items):
            return None
        ordered = sorted(map(str, items)) if kind in (set, frozenset) else items
        return f"{kind.__name__}({', '.join(map(str, ordered))})"
    if kind is dict:
        pairs = [(_plain(key, depth + 1), _plain(item, depth + 1)) for key, item in value.items()]
        if any(key is None or item is None for key, item in pairs):
            return None
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    return None


# ----------------------------------------------------------------------------------------------------- names in code


class Names(ast.NodeVisitor):
    """The dotted names a definition takes from outside of itself, and what it imports itself."""

    def __init__(self, module: Module) -> None:
        self.chains: set[tuple[str, ...]] = set()
        self.imports: dict[str, tuple[str, str]] = {}
        self._scopes: list[set[str]] = []
        self._package = module.name if Path(module.file).name == "__init__.py" else module.name.rpartition(".")[0]

    def visit_FunctionDef(self, node: Function) -> None:
        for outside in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(outside)
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in arguments:
            if argument is not None and argument.annotation is not None:
                self.visit(argument.annotation)
        if node.returns is not None:
            self.visit(node.returns)
        self._scopes.append({one.arg for one in arguments if one is not None} | _locals(node.body))
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        args = node.args
        for default in (*args.defaults, *(d for d in args.kw_defaults if d)):
            self.visit(default)
        names = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        self._scopes.append({one.arg for one in names if one is not None})
        self.visit(node.body)
        self._scopes.pop()

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        found, stars = imported(node, self._package)
        self.imports.update(found)
        # what is taken in whole by an inner import is used, as far as anybody can tell
        self.chains.update({(f"\0{star}",) for star in stars})
        self.imports.update({f"\0{star}": (star, "") for star in stars})
        self.chains.update(
            {(name,) for name in found if name.startswith("\0")} if isinstance(node, ast.Import) else set()
        )

    visit_ImportFrom = visit_Import  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain:
            self._use(chain)
        else:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._use((node.id,))

    def _use(self, chain: tuple[str, ...]) -> None:
        if chain[0] in self.imports or not any(chain[0] in scope for scope in self._scopes):
            self.chains.add(chain)


def _locals(body: list[ast.stmt]) -> set[str]:
    """Names that a function binds itself."""
    bound, outer = set[str](), set[str]()
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Global):
            outer.update(node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif (isinstance(node, ast.ExceptHandler) and node.name) or (
            isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name
        ):
            bound.add(node.name)
        if not isinstance(node, ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
    return bound - outer


def _chain(node: ast.AST) -> tuple[str, ...]:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ()
    names.append(node.id)
    return tuple(reversed(names))


# --------------------------------------------------------------------------------------------------------- packages


def _is_package(name: str) -> bool:
    top = name.partition(".")[0]
    return bool(top) and top not in sys.stdlib_module_names and top != "tarmac"


@lru_cache(maxsize=1024)
def version(package: str) -> str:
    """The version of an installed package, as cheaply as it can be had."""
    loaded = sys.modules.get(package)
    found = getattr(loaded, "__version__", None)
    if isinstance(found, str):
        return found
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package, [])
        return ", ".join(metadata.version(name) for name in names[:1]) or "unknown"
