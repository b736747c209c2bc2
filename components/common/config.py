"""Settings: strict models beside their steps, read from one YAML file, with errors that say where and what."""

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from components.common.errors import InputError


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as the number that YAML 1.2, and whoever writes it, takes it for; PyYAML wants 1.0e-4."""


_Loader.yaml_implicit_resolvers = {
    first: list(found) for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


class NotInKey:
    """Marks a field (`Annotated[int, NotInKey]`) that changes how a step works but not what comes out."""


class StepConfig(BaseModel):
    """Base of every settings model: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    def key_fields(self) -> dict[str, Any]:
        """The settings that a result depends on, as JSON values (fields marked `NotInKey` left out)."""
        fields = {}
        for name, field in type(self).model_fields.items():
            if any(mark is NotInKey or isinstance(mark, NotInKey) for mark in field.metadata):
                continue
            value = getattr(self, name)
            if isinstance(value, StepConfig):
                fields[name] = value.key_fields()
            else:
                fields[name] = self.model_dump(mode="json", include={name})[name]
        return fields


UNKNOWN_NAME = "unknown_name"


def unknown_name(place: tuple[str, ...], valid: Sequence[str]) -> PydanticCustomError:
    """For a field's validator to raise: the key at `place` below the field is none of the `valid` ones.

    It is refused as a key that no model has, with its place in the file and the nearest of them.
    """
    return PydanticCustomError(
        UNKNOWN_NAME,
        "{name} is none of {known}",
        {"name": ".".join(place), "known": ", ".join(valid), "place": place, "valid": valid},
    )


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Override:
    """One setting given outside the file: a dotted key, its value, and the words the user gave it with."""

    key: str
    value: Any
    origin: str


def parse_override(text: str, *, option: str = "--set") -> Override:
    """`train.epochs=3` → an override; the value is read as YAML, so `null`, numbers and lists work."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InputError(
            "a setting on the command line needs a key and a value",
            where=f"{option} {text}",
            expected="key=value, such as train.epochs=3",
            found=repr(text),
        )
    try:
        parsed = yaml.load(value, Loader=_Loader) if value.strip() else ""  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        raise InputError(
            "the value of a setting is not YAML", where=f"{option} {text}", found=str(error).splitlines()[0]
        ) from error
    return Override(key.strip(), parsed, f"{option} {text}")


def load_config(
    model: type[ConfigT],
    path: Path | None = None,
    overrides: Sequence[Override] = (),
    *,
    text: str | None = None,
) -> ConfigT:
    """Read `path` (or YAML `text`), apply the overrides in order, check the whole, and return it.

    Raises `InputError` for the first thing that is wrong, with its place in the file, what was expected there and,
    for an unknown key, the nearest valid one.
    """
    source = str(path) if path is not None else "the given config"
    if path is not None:
        text = _read(path)
    node, values = _parse(text or "", source)
    origins: dict[tuple[str, ...], str] = {}
    for override in overrides:
        parts = tuple(override.key.split("."))
        _put(values, parts, override)
        origins[parts] = override.origin
    try:
        _fill_empty(model, values)
        # Through JSON: in pydantic's strict mode a list becomes a tuple only there.
        return model.model_validate_json(json.dumps(values, default=_no_json))
    except ValidationError as error:
        raise _explain(model, error, node, source, origins) from None
    except TypeError as error:
        raise InputError(
            "a setting has a type that a config cannot hold", where=source, found=str(error)
        ) from None


def _fill_empty(model: type[BaseModel], values: dict[str, Any]) -> None:
    """`train:` with nothing below it (all of its lines commented out) means its defaults."""
    for name, field in model.model_fields.items():
        if not _is_model(field.annotation):
            continue
        if name in values and values[name] is None:
            values[name] = {}
        if isinstance(values.get(name), dict):
            _fill_empty(cast("type[BaseModel]", field.annotation), values[name])


def _no_json(value: object) -> str:
    # YAML turns 2026-11-23 into a date; the model will say what it expected instead of it.
    return str(value)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            "there is no such config file", where=str(path), todo="check the path given to -f"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the config file cannot be read", where=str(path), found=str(error)) from error


def _parse(text: str, source: str) -> tuple[yaml.Node | None, dict[str, Any]]:
    try:
        node = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError("the config is not valid YAML", where=where, found=problem) from None
    _refuse_double_keys(node, source, ())
    if values is None:
        return None, {}
    if not isinstance(values, dict):
        raise InputError(
            "the config must be a mapping of settings",
            where=source,
            expected="key: value",
            found=type(values).__name__,
        )
    return node, values


def _refuse_double_keys(
    node: yaml.Node | None, source: str, path: tuple[str, ...], above: tuple[yaml.Node, ...] = ()
) -> None:
    """PyYAML keeps the last of two equal keys in silence; a setting that is silently lost is worse than an error."""
    if node is None:
        return
    if any(node is parent for parent in above):
        raise InputError(
            f"{'.'.join(path)} contains itself", where=_place(source, node), todo="remove the alias (*name)"
        )
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _refuse_double_keys(child, source, (*path, str(index)), above)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, child in node.value:
        name = str(key.value)
        if name in seen:
            raise InputError(
                f"the key {'.'.join((*path, name))} stands twice",
                where=_place(source, key),
                todo="keep one of the two",
            )
        seen.add(name)
        _refuse_double_keys(child, source, (*path, name), above)


def _put(values: dict[str, Any], parts: tuple[str, ...], override: Override) -> None:
    for part in parts[:-1]:
        child = values.setdefault(part, {})
        if child is None:
            child = values[part] = {}
        if not isinstance(child, dict):
            raise InputError(f"{part} is a value, not a group of settings", where=override.origin)
        values = child
    values[parts[-1]] = override.value


def _place(source: str, node: yaml.Node) -> str:
    return f"{source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _find(node: yaml.Node | None, loc: tuple[str, ...]) -> yaml.Node | None:
    """The node of the deepest part of `loc` that the file has; a mapping's key where there is one."""
    found: yaml.Node | None = None
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, child) for key, child in node.value if str(key.value) == part), None)
            if pair is None:
                return found
            found, node = pair
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            found = node = node.value[int(part)]
        else:
            return found
    return found


def _explain(
    model: type[BaseModel],
    error: ValidationError,
    node: yaml.Node | None,
    source: str,
    origins: dict[tuple[str, ...], str],
) -> InputError:
    # Unknown keys first: a typing error in a name is the likeliest cause of the rest.
    errors = sorted(error.errors(), key=lambda e: e["type"] not in ("extra_forbidden", UNKNOWN_NAME))
    first = errors[0]
    named = first["ctx"] if first["type"] == UNKNOWN_NAME else None
    loc = tuple(str(part) for part in (*first["loc"], *(named["place"] if named else ())))
    # The override that set this value, or one below it (the unknown key may be a parent that it made).
    origin = next(
        (
            text
            for parts, text in reversed(origins.items())
            if loc[: len(parts)] == parts or parts[: len(loc)] == loc
        ),
        None,
    )
    found_node = _find(node, loc)
    where = origin or (_place(source, found_node) if found_node is not None else source)
    name = ".".join(loc)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if named or first["type"] == "extra_forbidden":
        valid = named["valid"] if named else _valid_names(model, loc[:-1])
        near = difflib.get_close_matches(loc[-1], valid, n=1, cutoff=0.5)
        prefix = ".".join(loc[:-1])
        dotted = f"{prefix}." if prefix else ""
        return InputError(
            f"unknown setting {name}{more}",
            where=where,
            expected=f"one of {', '.join(valid)}" if valid else None,
            todo=f"did you mean {dotted}{near[0]}?"
            if near
            else "conveyor config --schema lists every setting",
        )
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return InputError(
        f"the setting {name or 'config'} is wrong{more}",
        where=where,
        expected=message,
        found=None if isinstance(first["input"], dict) else repr(first["input"]),
    )


def _valid_names(model: type[BaseModel], loc: Sequence[str]) -> list[str]:
    """Names that a mapping at `loc` may have."""
    current: Any = model
    for part in loc:
        field = current.model_fields.get(part) if _is_model(current) else None
        if field is None:
            return []
        current = _inner_model(field.annotation)
    return sorted(current.model_fields) if _is_model(current) else []


def _inner_model(annotation: Any) -> Any:
    if get_origin(annotation) is None:
        return annotation
    return next((arg for arg in get_args(annotation) if _is_model(arg)), None)


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
