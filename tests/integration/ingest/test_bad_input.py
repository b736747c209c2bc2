"""Bad input through the step's own command line: one clear error, the right status, nothing half-written."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from components.common.refs import parse_ref
from components.common.store import Store
from support.images import make_image_folder, synthetic_image

pytestmark = pytest.mark.integration
Rows = Callable[..., dict[str, dict[str, Any]]]


def call(
    source: Path | str | None, store: Store, *settings: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "components.ingest", "--store", store.url, "--quiet"]
    for text in ("ingest.num_workers=1", *settings):
        command += ["--set", text]
    if source is not None:
        command += ["--set", f"ingest.source={source}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def obey_permissions() -> None:
    """Root reads every file: what the child starts as root loses that power (CAP_DAC_OVERRIDE, ..._READ_SEARCH)."""
    if os.geteuid() == 0:
        for capability in (1, 2):
            ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP


def refused(done: subprocess.CompletedProcess[str], store: Store, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not list(store.list("records/"))
    assert not list(store.list("datasets/"))


def test_no_source(store: Store) -> None:
    refused(call(None, store), store, "no source", "--source DIR")


def test_missing_and_empty_folder(tmp_path: Path, store: Store) -> None:
    refused(call(tmp_path / "nowhere", store), store, "no such source", "nowhere")
    (tmp_path / "empty").mkdir()
    refused(call(tmp_path / "empty", store), store, "holds no images", "nothing at all")


def test_one_class_only(tmp_path: Path, store: Store) -> None:
    refused(call(make_image_folder(tmp_path / "x", classes=1), store), store, "only one class", "class_0")


def test_no_readable_image(tmp_path: Path, store: Store) -> None:
    for name in ("a/1.png", "b/2.jpg"):
        (tmp_path / "x" / name).parent.mkdir(parents=True)
        (tmp_path / "x" / name).write_text("no image")
    refused(call(tmp_path / "x", store), store, "not one image", "2 × not_an_image", "a/1.png")


def test_too_few_to_split(tmp_path: Path, store: Store) -> None:
    refused(call(make_image_folder(tmp_path / "x", classes=2, per_class=1), store), store, "too few images")


def test_classes_that_differ_in_case(tmp_path: Path, store: Store) -> None:
    source = make_image_folder(tmp_path / "x")
    (source / "class_0").rename(source / "CLASS_1")
    refused(call(source, store), store, "only in case", "CLASS_1")


def test_a_broken_link(tmp_path: Path, store: Store) -> None:
    source = make_image_folder(tmp_path / "x")
    (source / "class_0" / "gone.png").symlink_to("nowhere")
    refused(call(source, store), store, "cannot be read", "gone.png")


def test_a_file_without_permission(tmp_path: Path, store: Store) -> None:
    source = make_image_folder(tmp_path / "x")
    (source / "class_1" / "0003.jpg").chmod(0)
    done = call(source, store, preexec_fn=obey_permissions)
    refused(done, store, "cannot be read", "class_1/0003.jpg", "ermission")


def test_odd_things_are_quarantined_or_left_out(tmp_path: Path, store: Store, rows: Rows) -> None:
    """All at once: none of them stops the others."""
    source = make_image_folder(tmp_path / "x", per_class=30)
    Image.fromarray(synthetic_image(0, 77)).save(source / "class_0" / "really.png", "JPEG")
    (source / "class_0" / "empty.png").touch()
    (source / "class_0" / "loop").symlink_to(source)
    Image.new("L", (300, 300)).save(source / "class_1" / "huge.png")
    (source / "class_1" / "README").write_text("no suffix, no image, no harm")
    folder = os.fsencode(source / "class_2")
    Path(os.fsdecode(folder + b"/caf\xe9.png")).write_bytes((source / "class_2/0001.jpg").read_bytes()[:200])
    Image.fromarray(synthetic_image(0, 78)).save(source / "alone.png")
    single = source / "single"
    single.mkdir()
    Image.fromarray(synthetic_image(2, 79)).save(single / "only.png")
    done = call(source, store, "ingest.max_pixels=10000")
    assert done.returncode == 0, done.stderr
    ref = parse_ref(json.loads(done.stdout), where="stdout")
    found = rows(ref)
    reasons = {name: row["reason"] for name, row in found.items() if row["status"] != "accepted"}
    assert reasons == {
        "class_0/really.png": "wrong_extension",
        "class_0/empty.png": "empty",
        "class_1/huge.png": "too_large",
        "class_2/caf\\xe9.png": "wrong_extension",
        "alone.png": "no_class",
    }
    assert found["single/only.png"]["split"] == "train"
    assert "fewer than 3 images" in done.stderr


def test_ctrl_c_leaves_nothing_and_a_rerun_goes_on(tmp_path: Path, store: Store) -> None:
    source = make_image_folder(tmp_path / "x", per_class=150, size=(300, 300))
    command = [sys.executable, "-m", "components.ingest", "--store", store.url]
    command += ["--set", f"ingest.source={source}", "--set", "ingest.num_workers=2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    workers: list[psutil.Process] = []
    while not workers and time.monotonic() < deadline and process.poll() is None:
        workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert not list(store.list("records/"))
    assert call(source, store).returncode == 0
