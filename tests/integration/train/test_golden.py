"""Numbers of a fixed training: a change that should not alter them must reproduce them.

After a change that is meant to alter them: `CONVEYOR_WRITE_GOLDEN=1 pytest tests/integration/train/test_golden.py`, and say
why in the commit.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.common.blobs import Blobs
from components.common.progress import make_reporter
from components.common.step import execute
from components.common.store import open_store
from components.common.trees import Tree
from components.train import run
from components.train.config import TrainConfig
from support.synthetic_shards import make_shards

GOLDEN = Path(__file__).with_name("golden.json")
# Seen: kernels of another instruction set (ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41) move the last losses by
# up to 0.1 %, since rounding grows over the steps.
TOLERANCE = 4e-3
CASES: dict[str, dict[str, Any]] = {
    "sgd": {"gradient_clip": 5.0},
    "adamw": {"optimizer": "adamw", "ema_decay": None, "class_weighting": "balanced", "label_smoothing": 0.0},
}


def blocks(num: int, salt: int) -> tuple[Any, Any]:
    """Integer arithmetic only, so that every machine makes the same pixels: a bright quadrant is the class."""
    index = np.arange(num * 64, dtype=np.uint64).reshape(num, 8, 8)
    noise = ((index * 2654435761 + salt * 40503) >> 7) % 160
    labels = np.arange(num) % 3 + (np.arange(num) % 7 == 0)
    images = noise.astype(np.uint8)
    for label, (top, left) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        images[labels == label, top : top + 4, left : left + 4] += 60
    return images[..., None], labels.astype(np.int64)


@pytest.mark.parametrize("case", CASES)
def test_losses_are_the_golden_ones(tmp_path: Path, case: str) -> None:
    store = open_store(str(tmp_path / "store"))
    blobs = Blobs(store)
    shards = make_shards(blobs, {"train": blocks(96, 1), "val": blocks(32, 2), "test": blocks(8, 3)}, 4)
    config = TrainConfig(
        model="lenet",
        epochs=5,
        batch_size=16,
        engine="inline",
        backend="torchvision",
        threads=1,
        **CASES[case],
    )
    ref = execute(run, config, run.Inputs(shards=shards), store, make_reporter(quiet=True)).output
    history = json.loads(blobs.read(Tree.read(blobs, ref.tree)["history.json"].digest))
    found = {name: [entry[name] for entry in history] for name in ("train_loss", "val_loss", "learning_rate")}

    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("CONVEYOR_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {case: found}, indent=2) + "\n")
        return
    assert found["train_loss"][-1] < found["train_loss"][0]
    for name, values in golden[case].items():
        assert found[name] == pytest.approx(values, rel=TOLERANCE), name
