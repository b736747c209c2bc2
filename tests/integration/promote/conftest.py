"""Challengers of every kind for one small data set, and a fresh store for each test."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.common.blobs import Blobs
from components.common.progress import QuietReporter
from components.common.refs import Candidate, CompressedRef
from components.common.step import Outcome, execute
from components.common.store import Store, open_store
from components.common.trees import Tree
from components.compress.export import export
from components.compress.quantize import quantize
from components.data.loaders import open_evaluation_loader
from components.models.architectures import build_model
from components.models.onnx_predictor import OnnxPredictor
from components.models.weights import load_model
from components.promote import run as step
from components.promote.config import PromoteConfig
from components.promote.registry import Registry
from support.small_world import SmallWorld, make_small_world

NO_CLOCKS = {"max_latency_ratio": None, "max_size_ratio": None}


@dataclass(frozen=True)
class Case:
    """One store with three challengers: `int8` and `fp32` of a trained network, and `bad`, untrained."""

    world: SmallWorld
    challengers: dict[str, CompressedRef]

    @property
    def store(self) -> Store:
        return self.world.store

    @property
    def registry(self) -> Registry:
        return Registry(self.store, "digits")

    def inputs(self, name: str = "int8") -> step.Inputs:
        world = self.world
        return step.Inputs(
            compressed=self.challengers[name],
            evaluation=world.evaluation,
            snapshot=world.snapshot,
            shards=world.shards,
            model=world.model,
        )

    def promote(self, name: str = "int8", **settings: Any) -> Outcome:
        config = PromoteConfig.model_validate_json(json.dumps(NO_CLOCKS | settings))
        return execute(step, config, self.inputs(name), self.store, QuietReporter())

    def on(self, store: Store) -> "Case":
        return Case(replace(self.world, store=store), self.challengers)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("promote")
    world = make_small_world(folder, num_images=300, epochs=8, num_classes=4)
    blobs, side = world.blobs, world.shards.image_size
    with open_evaluation_loader(
        world.shards, blobs, split="train", batch_size=64, backend="torchvision"
    ) as batches:
        images = np.asarray(next(batches).images)
    good = export(load_model(world.model, blobs), channels=1, image_size=side)
    untrained = build_model("lenet", num_classes=4, channels=1, image_size=side)
    models = {
        "fp32": good,
        "int8": quantize(good, images, weight_range="reduced", scratch=folder),
        "bad": export(untrained, channels=1, image_size=side),
    }
    challengers = {name: compressed_ref(world, blobs, name, model) for name, model in models.items()}
    return Case(world, challengers)


@pytest.fixture
def case(template: Case, tmp_path: Path) -> Case:
    """A store of its own, with no registry yet."""
    source = Path(template.store.url.removeprefix("file://"))
    shutil.copytree(source, tmp_path / "store")
    return template.on(open_store(str(tmp_path / "store")))


def compressed_ref(world: SmallWorld, blobs: Blobs, name: str, model: bytes) -> CompressedRef:
    """The reference that compress would have made, with one candidate."""
    digest, size = blobs.put(model)
    predictor, accuracy = OnnxPredictor(model), {}
    for split in ("val", "test"):
        with open_evaluation_loader(
            world.shards, blobs, split=split, batch_size=64, backend="torchvision"
        ) as batches:
            right = [predictor(np.asarray(b.images)).argmax(1) == np.asarray(b.labels) for b in batches]
        accuracy[split] = float(np.concatenate(right).mean())
    candidate = Candidate(
        name=name,
        model=digest,
        precision="int8" if name == "int8" else "fp32",
        pruned=0.0,
        size_bytes=size,
        num_parameters=world.model.num_parameters,
        accuracy_validation=accuracy["val"],
        accuracy=accuracy["test"],
    )
    ref = world.model
    return CompressedRef(
        tree=Tree.write(blobs, {f"candidates/{name}.onnx": (digest, size)}),
        source=ref.tree,
        candidates=(candidate,),
        chosen=name,
        classes=ref.classes,
        image_size=ref.image_size,
        stored_size=ref.stored_size,
        channels=ref.channels,
        mean=ref.mean,
        std=ref.std,
    )
