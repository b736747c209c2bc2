"""The code version: a digest of the syntax trees of what a step runs."""

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from components.common.canonical import DIGEST_PREFIX

# Wrappers around a step, and parts that carry bytes and words without changing them: a reworded message or a
# better retry must not throw away a week of training.
NOT_THE_STEP = ("component", "__main__")
CARRIERS = (
    "components.common.store",
    "components.common.errors",
    "components.common.progress",
    "components.common.code",
    "components.common.config",
    "components.common.blobs",
    "components.common.keep",
    "components.common.records",
    "components.common.runs",
    "components.common.step",
)


@cache
def code_version(package: str) -> str:
    """Digest of every first-party module that `package` (such as `components.train`) runs or imports.

    Comments, docstrings and layout do not count; neither do a step's wrappers nor the modules in `CARRIERS`.
    """
    first_party = {"components", package.partition(".")[0]}
    todo = _own_modules(package)
    found: dict[str, str] = {}
    while todo:
        module = todo.pop()
        if module in found or _is_carrier(module):
            continue
        read = _read(module)
        if read is None:
            continue
        found[module], imports = read
        if "." in module:
            todo.append(module.rpartition(".")[0])  # importing a module runs its package's __init__ first
        todo.extend(name for name in imports if name.partition(".")[0] in first_party)
    whole = "\n".join(f"{name} {found[name]}" for name in sorted(found))
    return DIGEST_PREFIX + hashlib.sha256(whole.encode()).hexdigest()


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]] | None:
    """A module's fingerprint and what it imports; None where there is no such file. Steps share most modules."""
    path = _source(module)
    if path is None:
        return None
    shape: list[str] = []
    imports: list[str] = []
    _walk(ast.parse(path.read_bytes()), _package_of(module, path), shape, imports)
    return hashlib.sha256("".join(shape).encode()).hexdigest(), tuple(imports)


def _is_carrier(module: str) -> bool:
    return any(module == name or module.startswith(name + ".") for name in CARRIERS)


def _own_modules(package: str) -> list[str]:
    """A step starts workers by module name, so all of its folder counts, imported or not."""
    path = _source(package)
    if path is None or path.name != "__init__.py":
        return [package]
    names = []
    for file in sorted(path.parent.rglob("*.py")):
        parts = file.relative_to(path.parent).with_suffix("").parts
        if parts[-1] in NOT_THE_STEP:
            continue
        names.append(".".join((package, *(part for part in parts if part != "__init__"))))
    return names


@cache
def _source(module: str) -> Path | None:
    """The file of a module, found without importing anything (a parent may well be torch's heaviest user)."""
    root, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if not parts:
        return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    for folder in folders:
        base = folder.joinpath(*parts)
        for file in (base / "__init__.py", base.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _package_of(module: str, path: Path) -> str:
    """What one dot in a relative import means."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def _walk(node: ast.AST, package: str, shape: list[str], imports: list[str]) -> None:
    """Append the syntax of `node` to `shape`, and what it imports to `imports`, in one go: trees are large."""
    kind = type(node)
    shape.append(f"({kind.__name__}")
    if kind is ast.Import or kind is ast.ImportFrom:
        imports.extend(_imported(node, package))
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            _walk(value, package, shape, imports)
        elif isinstance(value, list):
            shape.append("[")
            for child in value:
                if not isinstance(child, ast.AST):
                    shape.append(repr(child))
                elif name != "body" or not _is_text(child):
                    _walk(child, package, shape, imports)
            shape.append("]")
        else:
            shape.append(repr(value))
    shape.append(")")


def _imported(node: ast.AST, package: str) -> list[str]:
    """Module names that a statement imports; `from a import b` names both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        parents = ".".join(parts[: len(parts) - node.level + 1])
        base = f"{parents}.{base}" if base else parents
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def _is_text(node: ast.AST) -> bool:
    """A bare string: a docstring of a module, class, function or field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
