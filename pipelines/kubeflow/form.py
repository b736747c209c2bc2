"""What a config says, as the values of a Kubeflow form."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components.common.errors import InputError
from components.common.runs import check_run_id
from components.common.sections import RootBase
from pipelines.parameters import PARAMETERS

Value = str | int


def form_values(config: RootBase) -> dict[str, Value]:
    """Field → value, of all that the user has set: the plain fields, and the rest as YAML in `config`.

    A setting stands in one place, so that who changes the field in Kubeflow's form changes what runs.
    """
    given = config.model_dump(mode="json", exclude_unset=True)
    values: dict[str, Value] = {}
    for parameter in PARAMETERS:
        if parameter.key is not None:
            value = _take(given, parameter.key.split("."))
            if value is not None:
                values[parameter.name] = value
    rest = {section: settings for section, settings in given.items() if settings not in ({}, None)}
    if rest:
        # One line: kfp writes defaults into a comment of the compiled file, where a second line would end the comment.
        text = yaml.safe_dump(rest, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**9)
        values["config"] = text.strip()
    return values


def parse_parameters(texts: Sequence[str]) -> dict[str, Value]:
    """`epochs=3` → a field and its value. Raises `InputError` for a field that the form has not."""
    fields = {parameter.name: parameter for parameter in PARAMETERS}
    values: dict[str, Value] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        where = f"--param {text}"
        if not separator or name not in fields:
            raise InputError(
                "the pipeline has no such parameter" if separator else "a parameter needs a name and a value",
                where=where,
                expected=f"NAME=VALUE with NAME one of {', '.join(fields)}",
                todo="other settings go with --set, such as --set train.batch_size=32",
            )
        if isinstance(fields[name].default, int):
            try:
                values[name] = int(value)
            except ValueError:
                raise InputError("this parameter is a whole number", where=where, found=repr(value)) from None
        else:
            values[name] = value
    return values


def check_values(values: Mapping[str, Value]) -> None:
    """Refuse what no pod could work with. Raises `InputError`."""
    if not values.get("store"):
        raise InputError(
            "no store is given, and every pod needs the same one",
            expected="--store s3://bucket/prefix",
            todo="give --store, or store.url in the config file",
        )
    for name, option in (("store", "--store"), ("source", "--source")):
        value = str(values.get(name, ""))
        if value and "://" not in value and not value.startswith("/"):
            raise InputError(
                f"the pods cannot reach a {name} in a folder of this machine",
                where=f"{option} {value}",
                expected="s3://bucket/prefix, or the absolute path of a volume that all pods mount",
                todo="kubernetes.mounts in the config mounts volumes; s3:// needs none",
            )
    if values.get("run"):
        check_run_id(str(values["run"]))


def _take(settings: dict[str, Any], path: Sequence[str]) -> Any:
    """Remove and return a nested value; None where it is not set."""
    for name in path[:-1]:
        child = settings.get(name)
        if not isinstance(child, dict):
            return None
        settings = child
    return settings.pop(path[-1], None)
