"""The evaluate step: how good a trained model is on one split, with how sure we are of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from components.common.canonical import Json, canonical_json
from components.common.errors import InputError
from components.common.machine import num_cores, num_gpus
from components.common.refs import EvaluationRef, ModelRef, ShardsRef, Split
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.common.trees import Tree
from components.data.builds import library_versions
from components.data.index import ShardIndex, read_index
from components.evaluate.analysis import analyse, summary_metrics, worst_errors
from components.evaluate.config import EvaluateConfig
from components.evaluate.html.page import templates_digest
from components.evaluate.pictures import picture
from components.evaluate.predictions import NAME as PREDICTIONS
from components.evaluate.predictions import encode_predictions
from components.evaluate.report import render_report
from components.models.inference import Forward, Outputs, collect, torch_forward
from components.models.metrics import predict_labels, softmax

NAME = "evaluate"
METRICS = "metrics.json"
REPORT = "report.html"


class Inputs(StepInputs):
    """What evaluate works on."""

    model: ModelRef
    """The trained network."""
    shards: ShardsRef
    """Where its split lies."""


def depends_on(config: EvaluateConfig, inputs: Inputs, store: Store) -> dict[str, Json]:  # noqa: ARG001 - every step has it
    """Where and by what the logits are computed, and the look of the report."""
    device, threads = _place(config)
    return {
        **library_versions("torch", "dali"),
        "device": device,
        "threads": threads,
        "templates": templates_digest(),
    }


def run(config: EvaluateConfig, inputs: Inputs, context: StepContext) -> EvaluationRef:
    """Predict the split, analyse the answers, draw the report, publish the tree."""
    _check(config, inputs)
    device, threads = _place(config)
    context.reporter.info(
        f"evaluate: {inputs.model.architecture} on {inputs.shards.splits[config.split]} {config.split} images",
        device=device,
        threads=threads,
    )
    with _network(inputs.model, context, device, threads) as forward:
        outputs = _predict(config.split, forward, config, inputs, context)
        validation = None
        if config.calibrate and config.split != "val" and inputs.shards.splits.get("val"):
            validation = _predict("val", forward, config, inputs, context)

    document = analyse(
        outputs,
        inputs.shards.classes,
        split=config.split,
        num_resamples=config.bootstrap_resamples,
        validation=validation,
    )
    index = read_index(inputs.shards, context.blobs, config.split)
    document["worst"], pictures = _mistakes(config, outputs, index, inputs.shards, context)
    metrics = summary_metrics(document)
    entries = {
        METRICS: context.blobs.put(canonical_json(document)),
        PREDICTIONS: context.blobs.put(encode_predictions(outputs, index)),
        REPORT: context.blobs.put(render_report(document, pictures, inputs.model)),
        **{name: context.blobs.put(data) for name, data in pictures.items()},
    }
    context.reporter.info(
        "evaluate: accuracy",
        accuracy=metrics["accuracy"],
        low=metrics["accuracy_low"],
        high=metrics["accuracy_high"],
        macro_f1=metrics["macro_f1"],
    )
    return EvaluationRef(
        tree=Tree.write(context.blobs, entries),
        model=inputs.model.tree,
        split=config.split,
        num_samples=len(outputs.labels),
        metrics=metrics,
    )


def _check(config: EvaluateConfig, inputs: Inputs) -> None:
    if not inputs.shards.splits.get(config.split):
        raise InputError(
            f"the {config.split} split holds no image, so there is nothing to evaluate on",
            where=f"shards {inputs.shards.tree}",
            todo="add images, or give the split a larger share (ingest.split)",
        )
    if inputs.model.classes != inputs.shards.classes:
        raise InputError(
            "the model and the shards do not have the same classes",
            expected=", ".join(inputs.model.classes[:20]),
            found=", ".join(inputs.shards.classes[:20]),
        )


def _place(config: EvaluateConfig) -> tuple[str, int]:
    """Device and number of CPU threads."""
    device = config.device if config.device != "auto" else "cuda" if num_gpus() else "cpu"
    return device, config.threads or num_cores()


@contextmanager
def _network(model: ModelRef, context: StepContext, device: str, threads: int) -> Iterator[Forward]:
    """The network as a function; torch's number of threads is put back when the block ends."""
    import torch

    from components.models.weights import load_model

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield torch_forward(load_model(model, context.blobs), device)
    finally:
        torch.set_num_threads(before)


def _predict(
    split: Split, forward: Forward, config: EvaluateConfig, inputs: Inputs, context: StepContext
) -> Outputs:
    from components.data.loaders import open_evaluation_loader

    num = inputs.shards.splits[split]
    loader = open_evaluation_loader(
        inputs.shards,
        context.blobs,
        split=split,
        batch_size=min(config.batch_size, num),
        num_threads=config.num_loader_threads or num_cores(),
    )
    with loader as batches, context.reporter.task(f"evaluate {split}", total=num, unit="images") as task:
        return collect(batches, forward, task=task)


def _mistakes(
    config: EvaluateConfig, outputs: Outputs, index: ShardIndex, shards: ShardsRef, context: StepContext
) -> tuple[list[Json], dict[str, bytes]]:
    """The most confident mistakes, and their pictures by entry name."""
    probabilities, predicted = softmax(outputs.logits), predict_labels(outputs.logits)
    mistakes: list[Json] = []
    pictures: dict[str, bytes] = {}
    for rank, place in enumerate(worst_errors(outputs, config.num_worst)):
        row, label, answer = int(outputs.indices[place]), int(outputs.labels[place]), int(predicted[place])
        extension, data = picture(index, row, context.blobs, channels=shards.channels)
        name = f"errors/{rank:03d}.{extension}"
        pictures[name] = data
        mistakes.append(
            {
                "key": str(index.key[row]),
                "source": str(index.source[row]),
                "label": label,
                "predicted": answer,
                "probability": round(float(probabilities[place, answer]), 6),
                "true_probability": round(float(probabilities[place, label]), 6),
                "picture": name,
                "side": int(max(index.height[row], index.width[row])),
            }
        )
    return mistakes, pictures
