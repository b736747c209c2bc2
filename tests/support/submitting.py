"""`conveyor submit` against a server that speaks Kubeflow's REST API v2beta1 (`kfp_server.py`)."""

from pathlib import Path
from typing import Any

from components.common.canonical import canonical_json
from components.common.store import open_store
from pipelines.cli import invoke
from support.kfp_backend import Backend
from support.kfp_checks import Object
from support.kfp_server import KfpServer

QUICK = ("--poll", "0.01")
"""The fake server's runs go on a bit at each look, not with time."""
PROMOTED = {"model": {"version": 3, "digest": "x"}, "promoted": True, "metrics": {"accuracy": 0.9}}
"""What a run leaves whose model became the champion."""


def submit(server: KfpServer, *arguments: str) -> int:
    return invoke(["submit", "--host", server.url, *QUICK, *arguments])


def only(objects: dict[str, Object]) -> Object:
    (found,) = objects.values()
    return found


def leave_result(backend: Backend, store: Path | str, **result: Any) -> None:
    """Have runs leave that in the store when they end, as their last task does."""

    def write(run: Object) -> None:
        name = run["parameters"].get("run") or run["run_id"]
        document: Any = {
            "version": 1,
            "job": run["run_id"],
            "result": {"run": name, "state": "succeeded", "store": str(store), **result},
        }
        open_store(str(store)).put(f"runs/{name}/result.json", canonical_json(document))

    backend.on_end = write
