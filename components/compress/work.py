"""The work of the compress step: make the candidates, judge them, measure them, choose one, publish."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from components.common.canonical import Json, canonical_json
from components.common.errors import InputError
from components.common.refs import Candidate, CompressedRef, ModelRef, ShardsRef, Split
from components.common.step import StepContext
from components.common.trees import Tree
from components.compress import healed
from components.compress.candidates import FP32, Made, Workshop, count_right, name_of
from components.compress.choose import Option, choose, fits
from components.compress.config import CompressConfig
from components.compress.data import Data
from components.compress.finetune import DivergedError, finetune, onnx_teacher, torch_teacher
from components.compress.measure import ORIGINAL, conditions, measure, to_value
from components.compress.prune import num_channels, prune
from components.compress.reproducible import reproducible
from components.compress.resolve import Place, Plan
from components.models.onnx_predictor import OnnxPredictor
from components.models.weights import load_model

RESTLESS = 2.0
"""When the rounds' medians of one model differ by more than this, the figures are worth little."""


def compress(
    config: CompressConfig,
    model: ModelRef,
    shards: ShardsRef,
    plan: Plan,
    where: Place,
    recorded: dict[str, float] | None,
    context: StepContext,
) -> CompressedRef:
    """Make the candidates, judge each on the validation split, measure all, choose, and report on the test split.

    `recorded` latencies (candidate name → milliseconds) make the choice instead of measured ones.
    """
    data = Data(config, shards, context, where)
    with reproducible(threads=where.threads, seed=config.prune.seed, device=where.device):
        teacher = load_model(model, context.blobs)
        shop = Workshop(
            images=data.calibration(config.quantize.calibration_images, config.prune.seed),
            quantize=config.quantize,
            threads=where.threads,
            scratch=context.scratch,
            reporter=context.reporter,
        )
        made = _make_all(config, plan, teacher, shop, data)
    _judge(made, data, "test", where)
    num = shards.splits
    latency_ms = (
        recorded if recorded is not None else _measure(config, plan, teacher, made, shop.images, context)
    )
    options = [_option(each, latency_ms, num["val"]) for each in made]
    baseline = made[0].num_right["val"] / num["val"]
    chosen = choose(options, baseline=baseline, drop=plan.drop)
    context.reporter.info(
        f"compress: {chosen.name} is chosen of {len(made)}",
        accuracy_validation=chosen.accuracy,
        latency_ms=chosen.latency_ms,
        size_bytes=chosen.size_bytes,
    )
    output = _publish(made, chosen.name, shop.dropped, model, num, context)
    healed.forget(plan.ratios, context)
    return output


def _make_all(
    config: CompressConfig, plan: Plan, teacher: nn.Module, shop: Workshop, data: Data
) -> list[Made]:
    """All candidates, judged on the validation split; the first is the uncompressed network as fp32 ONNX."""
    made = shop.make(teacher, ratio=None, pruned=0.0)
    _judge(made, data, "val", data.place)
    num_val = data.shards.splits["val"]
    baseline = made[0].num_right["val"] / num_val
    channels = num_channels(teacher)
    for ratio in plan.ratios:
        student = _student(teacher, made[0].model, ratio, config, plan, shop, data)
        if student is None:
            break
        share = 1 - num_channels(student) / max(channels, 1)
        new = shop.make(student, ratio=ratio, pruned=round(share, 6))
        _judge(new, data, "val", data.place)
        made += new
        good = (fits(each.num_right["val"] / num_val, baseline=baseline, drop=plan.drop) for each in new)
        if plan.stop_early and not any(good):
            break
    return made


def _student(
    teacher: nn.Module,
    teacher_onnx: bytes,
    ratio: float,
    config: CompressConfig,
    plan: Plan,
    shop: Workshop,
    data: Data,
) -> nn.Module | None:
    """The teacher without the share `ratio` of its channels, healed; None where it cannot be had.

    What was healed before the step was killed is taken as it is: the same weights to the bit.
    """
    example = torch.from_numpy(shop.images[:2])
    try:
        student = prune(teacher, ratio, example)
        student(example)
    except Exception as error:  # noqa: BLE001 - torch-pruning cannot follow every architecture; the others stand
        shop.drop(name_of(FP32, ratio), error)
        return None
    if healed.restore(student, ratio, data.context):
        return student
    seed, place = config.prune.seed, data.place
    device = torch.device(place.device)
    if place.device == "cpu":
        ask = onnx_teacher(OnnxPredictor(teacher_onnx, threads=place.threads))
    else:
        ask = torch_teacher(teacher, device)
    try:
        with (
            reproducible(threads=place.threads, seed=seed, device=place.device),
            data.training(plan, seed, f"heal {name_of(FP32, ratio)}") as (batches, on_step),
        ):
            student = finetune(student, ask, batches, plan.recipe(config), device=device, on_step=on_step)
    except DivergedError as error:
        shop.drop(name_of(FP32, ratio), error)
        return None
    finally:
        teacher.to("cpu")
    healed.keep(student, ratio, data.context)
    return student


def _judge(made: Sequence[Made], data: Data, split: Split, where: Place) -> None:
    """Count right answers of each candidate on a split."""
    models = {each.name: OnnxPredictor(each.model, threads=where.threads) for each in made}
    with data.evaluation(split) as batches:
        right, _ = count_right(models, batches)
    for each in made:
        each.num_right[split] = right[each.name]


def _measure(
    config: CompressConfig,
    plan: Plan,
    teacher: nn.Module,
    made: Sequence[Made],
    images: NDArray[np.float32],
    context: StepContext,
) -> dict[str, float]:
    """Measure, keep the figures beside the record, and return the median of batch 1 by candidate."""
    models = {each.name: OnnxPredictor(each.model, threads=config.latency.threads) for each in made}
    context.reporter.info(
        f"compress: measuring {len(made)} candidates and the original",
        seconds=plan.latency_seconds,
        threads=config.latency.threads,
    )
    latencies = measure(teacher, models, images, config.latency, seconds=plan.latency_seconds)
    context.measure["latency"] = to_value(latencies)
    context.measure["latency_conditions"] = conditions(config.latency)
    restless = max(sizes["batch_1"].spread for sizes in latencies.values())
    if restless > RESTLESS:
        context.reporter.warning(
            "compress: this machine was busy with other things while latency was measured",
            medians_differ_by_up_to=f"{restless:.1f} times",
        )
    by_name = {name: sizes["batch_1"].p50_ms for name, sizes in latencies.items()}
    original = by_name.pop(ORIGINAL)
    for each in made:
        context.reporter.info(
            f"compress: {each.name}",
            latency_ms=by_name[each.name],
            times_faster=original / by_name[each.name],
            size_bytes=len(each.model),
        )
    return by_name


def _option(made: Made, latency_ms: dict[str, float], num_val: int) -> Option:
    if made.name not in latency_ms:
        raise InputError(
            "the recorded latencies lack a candidate",
            where="compress.measurements",
            expected=f"a figure for {made.name}",
            found=", ".join(sorted(latency_ms)) or "none",
            todo="add it, or leave the candidate out (compress.prune.ratios, compress.quantize.enabled)",
        )
    accuracy = made.num_right["val"] / num_val
    return Option(made.name, latency_ms[made.name], accuracy, len(made.model), made.pruned)


def _publish(
    made: Sequence[Made],
    chosen: str,
    dropped: dict[str, str],
    model: ModelRef,
    num: dict[Split, int],
    context: StepContext,
) -> CompressedRef:
    """Write the ONNX files and the table of candidates, and return the reference."""
    entries: dict[str, tuple[str, int]] = {}
    candidates: list[Candidate] = []
    details: list[Json] = []
    for each in made:
        digest, size = entries[f"candidates/{each.name}.onnx"] = context.blobs.put(each.model)
        candidate = Candidate(
            name=each.name,
            model=digest,
            precision=each.precision,
            pruned=each.pruned,
            size_bytes=size,
            num_parameters=each.num_parameters,
            accuracy_validation=each.num_right["val"] / num["val"],
            accuracy=each.num_right["test"] / max(num.get("test", 0), 1),
        )
        candidates.append(candidate)
        details.append({**candidate.model_dump(mode="json"), "agreement": _agreement(each)})
    table: Json = {"version": 1, "chosen": chosen, "candidates": details, "dropped": dropped}
    entries["candidates.json"] = context.blobs.put(canonical_json(table))
    return CompressedRef(
        tree=Tree.write(context.blobs, entries),
        source=model.tree,
        candidates=tuple(candidates),
        chosen=chosen,
        classes=model.classes,
        image_size=model.image_size,
        stored_size=model.stored_size,
        channels=model.channels,
        mean=model.mean,
        std=model.std,
    )


def _agreement(made: Made) -> dict[str, Json]:
    found = made.agreement
    return {
        "num_images": found.num_images,
        "num_same_label": found.num_same_label,
        "max_difference": found.max_difference,
        "scale": found.scale,
    }
