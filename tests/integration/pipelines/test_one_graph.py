"""One graph, two ways to run it: `conveyor run`, then Kubeflow's local runner on the same data and store."""

import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from components.cluster.config import KubernetesConfig
from components.common.ends import read_end
from components.common.runs import list_runs, read_pointer
from components.common.store import Store, open_store
from pipelines.graph import GRAPH, Graph, Step
from pipelines.runner import read_result
from support.images import make_image_folder
from support.small_pipeline import ROOT, SMALL, conveyor, environment, write_config

pytestmark = pytest.mark.integration

SCHEMA = json.loads((ROOT / "docs" / "run.schema.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a config."""
    folder = tmp_path_factory.mktemp("one-graph")
    make_image_folder(folder / "images", classes=3, per_class=20, size=(16, 16), fmt="png")
    write_config(folder / "small.yaml")
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> Any:
    """The result of `conveyor run`."""
    ended = conveyor("run", "-f", "small.yaml", "--source", "images", "--store", "store", "--json", cwd=place)
    assert ended.status in {0, 4}, ended.err
    return ended.json()


def run_kubeflow(graph: Graph, place: Path, monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> None:
    """Run the pipeline made from `graph` under kfp.local, in subprocesses of this Python; nothing is tried again."""
    from kfp import local

    from pipelines.kubeflow.pipeline import make_pipeline

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(place / "kfp"), raise_on_error=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "you may be using a custom image": we are
        make_pipeline(graph, kubernetes=KubernetesConfig(retries=0))(**parameters)


def outputs(place: Path, name: str) -> list[Path]:
    """Every output artifact of that name that the local runner kept."""
    return sorted(path for path in (place / "kfp").rglob(name) if path.is_file())


def test_the_result_keeps_its_contract(first: Any) -> None:
    jsonschema.validate(first, SCHEMA)
    assert first["state"] == "succeeded"
    assert list(first["steps"]) == list(GRAPH.names())
    assert {step["state"] for step in first["steps"].values()} == {"done"}
    assert first["ingest"]["accepted"] == 60
    assert 0 <= first["metrics"]["accuracy"] <= 1
    assert first["compressed"]["chosen"] in first["compressed"]["candidates"]
    assert first["compressed"]["chosen"]["latency_ms"] > 0
    assert first["model"]["version"] == 1
    assert Path(first["report"]).is_file()


def test_an_unchanged_rerun_reuses_every_step_and_imports_nothing_heavy(first: Any, place: Path) -> None:
    arguments = ["run", "-f", "small.yaml", "--source", "images", "--store", "store", "--json", "--quiet"]
    script = (
        "import sys\nfrom pipelines.cli import invoke\n"
        f"status = invoke({arguments})\n"
        "heavy = {'torch', 'torchvision', 'nvidia', 'kfp', 'onnx', 'onnxruntime', 'sklearn', 'matplotlib', 'boto3'}\n"
        "print(status, *sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    result, status = done.stdout.splitlines()
    assert {step["state"] for step in json.loads(result)["steps"].values()} == {"reused"}
    assert status == "0"


def test_a_refused_promotion_ends_with_status_4(first: Any, place: Path) -> None:
    arguments = ("run", "-f", "small.yaml", "--source", "images", "--store", "store")
    strict = ("--set", "promote.registry=strict", "--set", "promote.max_size_bytes=1")
    ended = conveyor(*arguments, *strict, "--json", cwd=place)
    assert ended.status == 4, ended.err
    result = ended.json()
    jsonschema.validate(result, SCHEMA)
    assert (result["state"], result["promoted"]) == ("succeeded", False)
    assert result["steps"]["compress"]["state"] == "reused"
    again = conveyor(*arguments, *strict, cwd=place)
    assert again.status == 4
    assert "not promoted" in again.out
    assert "6 of 6 steps reused" in again.out


def test_a_bucket_holds_the_same_results_as_a_folder(first: Any, place: Path, s3_store_url: str) -> None:
    arguments = ("run", "-f", "small.yaml", "--source", "images", "--store", s3_store_url, "--json")
    ended = conveyor(*arguments, cwd=place)
    assert ended.status == 0, ended.err
    result = ended.json()
    jsonschema.validate(result, SCHEMA)
    for name in ("ingest", "preprocess", "train", "evaluate"):
        assert result["steps"][name]["key"] == first["steps"][name]["key"]
        assert result["steps"][name]["output"] == first["steps"][name]["output"]
    assert result["report"] == f"{s3_store_url}/runs/{result['run']}/report.html"
    again = conveyor(*arguments, cwd=place).json()
    assert {step["state"] for step in again["steps"].values()} == {"reused"}
    assert conveyor("verify", "--store", s3_store_url, cwd=place).status == 0
    told = conveyor("report", "--store", s3_store_url, "-o", "from-s3.html", cwd=place)
    assert told.status == 0, told.err
    assert (place / "from-s3.html").read_bytes().startswith(b"<!")


def test_kubeflow_reuses_every_step(first: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place / "kfp", ignore_errors=True)
    store = open_store(str(place / "store"))
    before = {info.key for info in store.list("records/")}
    monkeypatch.chdir(place)
    run_kubeflow(
        GRAPH,
        place,
        monkeypatch,
        source=str(place / "images"),
        store=str(place / "store"),
        run="kubeflow",
        model="lenet",
        epochs=2,
        workers=1,
        config=yaml.safe_dump(SMALL),
    )
    assert {info.key for info in store.list("records/")} == before
    for name in GRAPH.names():
        assert keys_of(store, "kubeflow")[name] == first["steps"][name]["key"]
    references = {
        json.loads(path.read_bytes())["kind"]: json.loads(path.read_bytes())
        for path in outputs(place, "reference")
    }
    for step in first["steps"].values():
        assert references[step["output"]["kind"]] == step["output"]
    pages = outputs(place, "report") + outputs(place, "contact_sheet") + outputs(place, "page")
    assert len(pages) == 3
    assert all(path.read_bytes().lstrip().lower().startswith(b"<!doctype html") for path in pages)


def test_kubeflows_last_task_leaves_what_conveyor_run_leaves(first: Any, place: Path) -> None:
    store = open_store(str(place / "store"))
    document: Any = read_result(store, "kubeflow")
    result = document["result"]
    jsonschema.validate(result, SCHEMA)
    noted = read_end(store, "kubeflow", "promote")
    assert noted is not None
    assert document["job"] == noted.job != ""  # whose it is, for `submit` of another run of the name
    assert {step["state"] for step in result["steps"].values()} == {"reused"}
    for part in ("ingest", "metrics", "model", "compressed", "promoted", "awaiting_approval"):
        assert result[part] == first[part], part
    assert 0 < result["seconds"] < 3600
    (page,) = outputs(place, "page")
    assert page.read_bytes() == Path(result["report"]).read_bytes()
    told = conveyor("runs", "--store", "store", "--json", cwd=place).json()
    assert next(row for row in told if row["run"] == "kubeflow")["state"] == "succeeded"


def keys_of(store: Store, run: str) -> dict[str, str]:
    pointers = {name: read_pointer(store, run, name) for name in GRAPH.names()}
    return {name: pointer.key for name, pointer in pointers.items() if pointer is not None}


def test_kubeflow_sees_metrics_and_curves_as_strict_json(
    first: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    documents = [
        json.loads(path.read_bytes(), parse_constant=refuse)
        for path in outputs(place, "executor_output.json")
    ]
    assert len(documents) == len(GRAPH) + 1
    artifacts = {
        name: value["artifacts"][0] for each in documents for name, value in each["artifacts"].items()
    }
    figures = [each["artifacts"]["metrics"]["artifacts"][0]["metadata"] for each in documents]
    assert any("exit_code" in shown and "accuracy" in shown for shown in figures)
    assert math.isclose(
        artifacts["classification"]["metadata"]["confusionMatrix"]["rows"][0]["row"][0], 2, abs_tol=2
    )
    curve = artifacts["classification"]["metadata"]["confidenceMetrics"]
    assert curve
    assert all(math.isfinite(point["confidenceThreshold"]) for point in curve)


def test_a_kubeflow_run_that_fails_tells_step_and_cause(
    first: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(place / "kfp", ignore_errors=True)
    monkeypatch.chdir(place)
    with pytest.raises(RuntimeError, match="preprocess"):
        run_kubeflow(
            GRAPH,
            place,
            monkeypatch,
            source=str(place / "images"),
            store=str(place / "store"),
            run="failing",
            image_size=100000,
            config=yaml.safe_dump(SMALL),
        )
    document: Any = read_result(open_store(str(place / "store")), "failing")
    result = document["result"]
    jsonschema.validate(result, SCHEMA)
    assert result["state"] == "failed"
    assert result["error"]["step"] == "preprocess"
    assert result["error"]["exit_code"] == 2
    assert {name: step["state"] for name, step in result["steps"].items()} == {
        "ingest": "reused",
        "preprocess": "failed",
    }
    (page,) = outputs(place, "page")
    assert result["error"]["what"].split("\n")[0] in page.read_text()


def test_a_step_added_to_the_table_shows_everywhere(
    first: Any,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from pipelines.cli import invoke

    graph = GRAPH.until("ingest").with_step(Step("dummy", "support.dummy", {"snapshot": "ingest"}))
    monkeypatch.chdir(place)
    arguments = [
        "--source",
        "images",
        "--store",
        "store",
        "--set",
        "ingest.num_workers=1",
        "--set",
        "dummy.times=2",
    ]
    assert invoke(["run", *arguments, "--run", "with-dummy", "--json"], graph) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["steps"]["ingest"]["state"] == "reused"
    assert result["steps"]["dummy"]["output"]["words"] == "hello hello"

    assert invoke(["config", "--schema"], graph) == 0
    assert "dummy" in json.loads(capfd.readouterr().out)["properties"]
    assert invoke(["step", "--help"], graph) == 0
    assert "dummy" in capfd.readouterr().out

    compiled = tmp_path / "pipeline.yaml"
    assert (
        invoke(["compile", "-o", str(compiled), "--image", "registry.example/conveyor-python:1"], graph) == 0
    )
    capfd.readouterr()
    spec = next(iter(yaml.safe_load_all(compiled.read_text())))
    steps = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert steps["dummy"]["dependentTasks"] == ["ingest"]
    images = {e["container"]["image"] for e in spec["deploymentSpec"]["executors"].values()}
    assert images == {"registry.example/conveyor-python:1"}

    shutil.rmtree(place / "kfp", ignore_errors=True)
    run_kubeflow(
        graph,
        place,
        monkeypatch,
        source=str(place / "images"),
        store=str(place / "store"),
        config="ingest: {num_workers: 1}",
    )
    words = [json.loads(path.read_bytes()).get("words") for path in outputs(place, "reference")]
    assert "hello" in words
    # Without a name of its own the run has Kubeflow's.
    store = open_store(str(place / "store"))
    assert any(run not in {"with-dummy", "kubeflow", first["run"]} for run in list_runs(store))
