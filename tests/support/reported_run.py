"""A finished run made of records alone, with figures of our choosing, for tests of the report."""

from collections.abc import Callable, Sequence

import numpy as np

from components.common.blobs import Blobs
from components.common.canonical import Json, canonical_json, digest_bytes
from components.common.records import Record, publish_record, write_measurements
from components.common.refs import (
    Candidate,
    CompressedRef,
    EvaluationRef,
    ModelRef,
    PromotionRef,
    Ref,
    ShardsRef,
    SnapshotRef,
)
from components.common.runs import point
from components.common.store import Store
from components.common.trees import Tree
from components.evaluate.analysis import analyse, summary_metrics
from components.models.inference import Outputs
from support.small_world import to_png

STEPS = ("ingest", "preprocess", "train", "evaluate", "compress", "promote")
SPLITS = {"train": 1430, "val": 178, "test": 179}
NOTHING = digest_bytes(b"")


def write_run(
    store: Store,
    run_id: str,
    *,
    classes: Sequence[str] = tuple("0123456789"),
    steps: Sequence[str] = STEPS,
    num_test: int = 179,
    skill: float = 6.0,
    file_name: str = "4/0123.png",
    promoted: bool = True,
    measured: bool = True,
    dataset: str = "digits",
) -> dict[str, Ref]:
    """Publish records, measurements and pointers of `steps` as the run `run_id`; returns their references."""
    blobs = Blobs(store)
    refs: dict[str, Ref] = {}
    made: dict[str, Callable[[], Ref]] = {
        "ingest": lambda: _snapshot(blobs, tuple(classes), file_name, dataset),
        "preprocess": lambda: _shards(blobs, tuple(classes)),
        "train": lambda: _model(blobs, tuple(classes)),
        "evaluate": lambda: _evaluation(blobs, tuple(classes), num_test, skill, file_name),
        "compress": lambda: _compressed(blobs, tuple(classes)),
        "promote": lambda: _promotion(blobs, promoted),
    }
    for name in STEPS:
        if name not in steps:
            continue
        ref = refs[name] = made[name]()
        key = digest_bytes(f"{run_id} {name}".encode()).removeprefix("sha256:")
        measurements: dict[str, Json] = {"seconds": 3.25}
        if name == "compress" and measured:
            measurements |= _latencies()
        if name == "promote":
            measurements["gates"] = {"latency": {"latency_ms": 0.041, "ratio": 0.72}}
        write_measurements(store, name, key, ref, measurements)
        config: dict[str, Json] = {"max_accuracy_drop": None} if name == "compress" else {"a_setting": 1}
        record = Record(
            step=name, key=key, code=NOTHING, config=config, inputs={}, depends_on={}, output=ref.to_value()
        )
        publish_record(store, record)
        point(store, run_id, name, key)
    return refs


def random_outputs(num: int, num_classes: int, skill: float, seed: int = 0) -> Outputs:
    """Logits of a model that is right the more often the higher `skill`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    logits = rng.normal(size=(num, num_classes)).astype(np.float32) * 1.6
    logits[np.arange(num), labels] += skill
    return Outputs(logits, labels, np.arange(num))


def _snapshot(blobs: Blobs, classes: tuple[str, ...], file_name: str, dataset: str) -> SnapshotRef:
    per_class = {name: {"train": 140 + i % 7, "val": 17, "test": 18} for i, name in enumerate(classes)}
    example = [{"source": file_name, "class": classes[0], "detail": "the file ends too early"}]
    near = [{"source": file_name, "class": classes[0]}, {"source": "b.png", "class": classes[1]}]
    summary: Json = {
        "version": 1,
        "statuses": {"accepted": 1787, "quarantined": 5, "duplicate": 1},
        "classes": per_class,
        "reasons": {
            "truncated": {"count": 2, "cure": "the file was cut off; copy it again", "examples": example},
            "label_conflict": {"count": 3, "cure": "keep the right one", "examples": example * 5},
        },
        "duplicates": [file_name],
        "suspects": [{"kind": "near_duplicates_of_different_classes", "images": near}],
        "ignored": {"hidden files": 3},
        "notes": ["classes are the folders' names"],
    }
    return SnapshotRef(
        tree=Tree.write(blobs, {"summary.json": blobs.put(canonical_json(summary))}),
        dataset=dataset,
        classes=classes,
        num_accepted=1787,
        num_quarantined=5,
        num_duplicates=1,
        reasons={"truncated": 2, "label_conflict": 3},
        splits={"train": 1430, "val": 178, "test": 179},
        channels=1,
        median_height=8,
        median_width=8,
    )


def _shards(blobs: Blobs, classes: tuple[str, ...]) -> ShardsRef:
    sheet = to_png(np.tile(np.arange(256, dtype=np.uint8), (120, 2))[..., None])
    return ShardsRef(
        tree=Tree.write(blobs, {"contact_sheet.png": blobs.put(sheet)}),
        snapshot=NOTHING,
        classes=classes,
        image_size=16,
        stored_size=16,
        channels=1,
        mean=(0.3,),
        std=(0.38,),
        splits={"train": 1430, "val": 178, "test": 179},
        class_counts=(143,) * len(classes),
        class_weights=(1.0,) * len(classes),
    )


def _model(blobs: Blobs, classes: tuple[str, ...]) -> ModelRef:
    history: list[Json] = []
    for epoch in range(24):
        loss = 2.2 * np.exp(-epoch / 5) + 0.02
        history.append(
            {
                "epoch": epoch,
                "step": 45 * (epoch + 1),
                "train_loss": float(loss),
                "val_loss": float(loss * 1.1 + 0.03 + 0.01 * np.sin(epoch)),
                "train_accuracy": float(1 - 0.8 * np.exp(-epoch / 3)),
                "val_accuracy": float(0.985 - 0.75 * np.exp(-epoch / 3)),
                "learning_rate": float(1e-3 * (1 + np.cos(np.pi * epoch / 24)) / 2),
            }
        )
    settings: Json = {"given": {}, "resolved": {"batch_size": 32, "optimizer": {"name": "adamw"}}}
    return ModelRef(
        tree=Tree.write(
            blobs,
            {
                "weights.safetensors": blobs.put(bytes(290_000)),
                "history.json": blobs.put(canonical_json(history)),
                "config.json": blobs.put(canonical_json(settings)),
            },
        ),
        shards=NOTHING,
        architecture="lenet",
        weights=NOTHING,
        classes=classes,
        image_size=16,
        stored_size=16,
        channels=1,
        mean=(0.3,),
        std=(0.38,),
        epochs=24,
        num_parameters=72_330,
        val_accuracy=0.9888,
    )


def _evaluation(
    blobs: Blobs, classes: tuple[str, ...], num_test: int, skill: float, file_name: str
) -> EvaluationRef:
    outputs = random_outputs(num_test, len(classes), skill)
    validation = random_outputs(num_test, len(classes), skill, seed=1)
    document = analyse(outputs, classes, split="test", num_resamples=200, validation=validation)
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    document["worst"] = [
        {
            "key": "0" * 20,
            "source": file_name,
            "label": i % len(classes),
            "predicted": (i + 3) % len(classes),
            "probability": 0.97 - i / 50,
            "true_probability": 0.02,
            "picture": "errors/000.png",
            "side": 16,
        }
        for i in range(8)
    ]
    return EvaluationRef(
        tree=Tree.write(
            blobs,
            {
                "metrics.json": blobs.put(canonical_json(document)),
                "errors/000.png": blobs.put(to_png(picture)),
            },
        ),
        model=NOTHING,
        split="test",
        num_samples=num_test,
        metrics=summary_metrics(document),
    )


CANDIDATES = (
    ("fp32", "fp32", 0.0, 291_000, 72_330, 0.9888, 0.9832, 0.118, 1.91),
    ("int8", "int8", 0.0, 82_400, 72_330, 0.9888, 0.9832, 0.083, 1.12),
    ("fp32-pruned-50", "fp32", 0.5, 81_300, 18_700, 0.9832, 0.9777, 0.052, 0.74),
    ("int8-pruned-50", "int8", 0.5, 28_900, 18_700, 0.9832, 0.9777, 0.041, 0.51),
    ("int8-pruned-75", "int8", 0.75, 13_900, 4_900, 0.9494, 0.9441, 0.029, 0.28),
)


def _compressed(blobs: Blobs, classes: tuple[str, ...]) -> CompressedRef:
    candidates = tuple(
        Candidate(
            name=name,
            model=NOTHING,
            precision="int8" if precision == "int8" else "fp32",
            pruned=pruned,
            size_bytes=size,
            num_parameters=parameters,
            accuracy_validation=validation,
            accuracy=test,
        )
        for name, precision, pruned, size, parameters, validation, test, _, _ in CANDIDATES
    )
    table: Json = {"version": 1, "dropped": {"fp32-pruned-87.5": "nothing would be left of a layer"}}
    return CompressedRef(
        tree=Tree.write(blobs, {"candidates.json": blobs.put(canonical_json(table))}),
        source=NOTHING,
        candidates=candidates,
        chosen="int8-pruned-50",
        classes=classes,
        image_size=16,
        stored_size=16,
        channels=1,
        mean=(0.3,),
        std=(0.38,),
    )


def _latencies() -> dict[str, Json]:
    def times(one: float, many: float) -> Json:
        return {
            "batch_1": {"p50_ms": one, "p95_ms": one * 1.2, "p99_ms": one * 1.4},
            "batch_32": {"p50_ms": many, "p95_ms": many * 1.1, "p99_ms": many * 1.3},
        }

    latency = {name: times(one, many) for name, *_, one, many in CANDIDATES}
    return {
        "latency": {"original": times(0.72, 4.4), **latency},
        "latency_conditions": {
            "cpu": "Some CPU at 2 GHz",
            "threads": 2,
            "rounds": 5,
            "warmup": 3,
            "onnxruntime": "1.32.0",
            "torch": "2.13.0",
        },
    }


def _promotion(blobs: Blobs, promoted: bool) -> PromotionRef:
    gates: Json = {
        "version": 1,
        "gates": [
            {"name": "not_inferior", "passed": promoted, "detail": "not inferior at a margin of 0.56 points"},
            {"name": "no_class_worse", "passed": True, "detail": "no class is shown to have lost more"},
            {"name": "latency", "passed": True, "detail": "latency within 1.1 times the champion's"},
        ],
    }
    return PromotionRef(
        tree=Tree.write(blobs, {"gates.json": blobs.put(canonical_json(gates))}),
        registry="digits",
        promoted=promoted,
        model_version=3,
        model=NOTHING,
        champion_before=2,
        gates={"not_inferior": promoted, "no_class_worse": True, "latency": True},
        reason="It is as accurate as the champion within the margin of 1 point, and 1.8 times faster."
        if promoted
        else "Its accuracy may be up to 2.3 points below the champion's; the margin is 1 point.",
    )
