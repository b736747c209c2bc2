"""The root config: the sections of every step in the table, and the store's."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from components.common.config import Override, load_config, parse_override
from components.common.errors import InputError
from components.common.sections import RootBase, root_model
from pipelines.graph import Graph

# The short options of `conveyor run` and the parameters of a Kubeflow form: name → setting.
SHORTCUTS = {
    "store": "store.url",
    "source": "ingest.source",
    "model": "train.model",
    "epochs": "train.epochs",
    "image_size": "preprocess.image_size",
    "workers": "train.workers",
    "image": "kubernetes.image",
    "namespace": "kubernetes.namespace",
}


def read_config(
    graph: Graph,
    path: Path | None = None,
    settings: Sequence[str] = (),
    shortcuts: dict[str, Any] | None = None,
    *,
    text: str | None = None,
) -> RootBase:
    """The effective config: the file, then each `--set`, then the short options that were given (not None).

    Raises `InputError` for the first thing that is wrong with any of it.
    """
    if path is not None and text is not None:
        raise InputError("a config is given twice", found="-f and --config", todo="give one of the two")
    overrides = [parse_override(setting) for setting in settings]
    for name, value in (shortcuts or {}).items():
        if value is not None:
            overrides.append(Override(SHORTCUTS[name], value, f"--{name.replace('_', '-')} {value}"))
    return load_config(root_model(graph.packages()), path, overrides, text=text)


def to_yaml(config: RootBase) -> str:
    """The config as a file that gives the same config again."""
    text: str = yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text


def to_schema(graph: Graph) -> str:
    """JSON Schema of a config file."""
    schema = root_model(graph.packages()).model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2)
