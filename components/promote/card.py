"""The model card of a version: what a colleague must know before using it."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.common.refs import Candidate, EvaluationRef
from components.models.intervals import wilson_interval
from components.models.latency import Latency
from components.promote.answers import Answers
from components.promote.documents import Version


def model_card(
    version: Version,
    candidates: Sequence[Candidate],
    evaluation: EvaluationRef,
    answers: Answers,
    latency: Latency | None,
    conditions: str,
    *,
    approval: bool = False,
) -> str:
    """Markdown. `latency` is batch 1, measured when the version was registered; `conditions` says how.

    `approval`: whether a person has the last word on it.
    """
    parts = [
        f"# {version.registry}, version {version.number}",
        _summary(version),
        *([_approval(version)] if approval else []),
        _use(version),
        _data(version),
        _metrics(version, evaluation, answers, latency, conditions),
        _classes(answers),
        _compression(version, candidates),
        _lineage(version),
    ]
    return "\n\n".join(parts) + "\n"


def _summary(version: Version) -> str:
    spec, network = version.spec, version.lineage["network"]
    precision = "int8" if spec.name.startswith("int8") else "fp32"
    return (
        f"A {network['architecture']} that tells {len(spec.classes)} classes of {_kind(version)} images apart, "
        f"compressed to `{spec.name}` ({precision} ONNX, {spec.size_bytes:,} bytes). Registered {version.created}."
    )


def _approval(version: Version) -> str:
    return (
        "It was registered awaiting approval: gates alone do not make it the champion, a person does, with "
        f"`conveyor models promote {version.number}`. `conveyor models show {version.number}` says how it stands."
    )


def _use(version: Version) -> str:
    spec = version.spec
    resize = (
        f"resized to {spec.image_size} × {spec.image_size}"
        if spec.stored_size == spec.image_size
        else f"resized so that the shorter side has {spec.stored_size} pixels, the middle "
        f"{spec.image_size} × {spec.image_size} cut out"
    )
    return f"""## Intended use

One {_kind(version)} image in, one of the classes below out. An image is {resize}, scaled to [0, 1], then normalised with
mean {_numbers(spec.mean)} and standard deviation {_numbers(spec.std)}; `conveyor predict` does all of it.

It was tested on images that were drawn from the same source as the training images, and on nothing else: expect less on
other sources. It answers with one of its classes whatever the image shows; an image of none of them is not recognised
as such. What depends on an answer, and who checks it, is for the owner of the application to state."""


def _data(version: Version) -> str:
    data = version.lineage["data"]
    splits = data["splits"]
    counts = data["class_counts"]
    rare, common = min(counts.values(), default=0), max(counts.values(), default=0)
    return f"""## Data

Data set `{_cell(data["dataset"])}`: {data["num_accepted"]:,} images accepted, {data["num_quarantined"]:,} quarantined,
{data["num_duplicates"]:,} duplicates left out. {splits.get("train", 0):,} for training, {splits.get("val", 0):,} for
validation, {splits.get("test", 0):,} for the test; near duplicates never stand in two of these. Between {rare:,} and
{common:,} training images a class."""


def _metrics(
    version: Version, evaluation: EvaluationRef, answers: Answers, latency: Latency | None, conditions: str
) -> str:
    low, high = wilson_interval(answers.num_right, len(answers))
    rows = [
        (
            "accuracy, test",
            f"{_percent(answers.accuracy)} (95 %: {_percent(low)} to {_percent(high)}, Wilson)",
        ),
        ("accuracy, validation", _percent(version.metrics["accuracy_validation"])),
    ]
    original = evaluation.metrics
    if "accuracy" in original:
        text = _percent(original["accuracy"])
        if "accuracy_low" in original and "accuracy_high" in original:
            bounds = f"{_percent(original['accuracy_low'])} to {_percent(original['accuracy_high'])}"
            text += f" (95 %: {bounds}, bootstrap)"
        rows.append((f"uncompressed network, {evaluation.split}", text))
    rows += [
        (f"uncompressed network, {name}", f"{original[name]:.4f}")
        for name in ("macro_f1", "top5", "roc_auc", "ece")
        if name in original
    ]
    if latency is not None:
        text = f"{latency.p50_ms:.3f} ms median, {latency.p95_ms:.3f} ms p95 ({conditions})"
        rows.append(("latency, one image", text))
    table = "\n".join(f"| {name} | {text} |" for name, text in rows)
    return f"""## Metrics

The test split ({len(answers):,} images) chose nothing: not the epoch, not the candidate.

| | |
|---|---|
{table}"""


def _classes(answers: Answers) -> str:
    support, recalls = answers.support(), answers.recalls()
    lines = []
    for name in sorted(support):
        low, high = wilson_interval(round(recalls[name] * support[name]), support[name])
        lines.append(
            f"| {_cell(name)} | {support[name]} | {_percent(recalls[name])} | {_percent(low)} to {_percent(high)} |"
        )
    return (
        "## Recall of each class\n\n| class | test images | recall | 95 % |\n|---|---|---|---|\n"
        + "\n".join(lines)
    )


def _compression(version: Version, candidates: Sequence[Candidate]) -> str:
    lines = [
        f"| {'**' if c.name == version.spec.name else ''}{c.name}{'**' if c.name == version.spec.name else ''} "
        f"| {c.size_bytes:,} | {c.num_parameters:,} | {_percent(c.accuracy_validation)} | {_percent(c.accuracy)} |"
        for c in candidates
    ]
    return (
        "## Compression\n\nThe chosen candidate is the fastest within the allowed loss of validation accuracy.\n\n"
        "| candidate | bytes | parameters | accuracy, validation | accuracy, test |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
    )


def _lineage(version: Version) -> str:
    lineage = version.lineage
    network = lineage["network"]
    rows: dict[str, Any] = {
        "model file": version.spec.model,
        **{f"{kind} (tree)": tree for kind, tree in lineage["references"].items()},
        "weights": lineage["weights"],
        **({"training started from (tree)": start} if (start := lineage.get("warm_start")) else {}),
        "network": f"{network['architecture']}, {network['num_parameters']:,} parameters, {network['epochs']} epochs",
        "seed": lineage["seed"],
        **{f"code of {step}": digest for step, digest in lineage["code"].items()},
    }
    table = "\n".join(f"| {name} | `{value}` |" for name, value in rows.items())
    return f"""## Lineage

| | |
|---|---|
{table}

`version.json` beside this card holds the training settings in full."""


def _kind(version: Version) -> str:
    return "grey" if version.spec.channels == 1 else "colour"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _cell(text: str) -> str:
    """A name within a table: a class may be called anything."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def describe_conditions(conditions: Mapping[str, Any]) -> str:
    return f"{conditions['threads']} threads, {conditions['cpu']}, ONNX Runtime {conditions['onnxruntime']}"
