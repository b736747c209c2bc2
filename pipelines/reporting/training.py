"""The training section: curves over the epochs and the settings that were chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.common.refs import ModelRef
from components.evaluate.html.charts import history_chart
from components.evaluate.html.page import share
from components.evaluate.html.plot import scientific
from pipelines.reporting.gather import RunView


def training_context(view: RunView) -> dict[str, Any] | None:
    """What `training.html.j2` shows; None where nothing was trained."""
    found = view.of(ModelRef)
    if found is None:
        return None
    model, step = found
    history: Sequence[Mapping[str, Any]] = view.document(step, "history.json") or []
    trained = view.document(step, "config.json") or {}
    settings, start = trained.get("resolved", {}), trained.get("warm_start")
    seconds = step.measurements.get("seconds")
    rate = step.measurements.get("images_per_second")
    facts = [
        ("network", model.architecture),
        ("parameters", f"{model.num_parameters:,}"),
        ("epochs", f"{model.epochs}"),
        *(
            [("started from", f"an earlier model's weights ({start.removeprefix('sha256:')[:12]})")]
            if start
            else []
        ),
        ("accuracy on validation", share(model.val_accuracy)),
        *([("time", f"{float(seconds):,.1f} s")] if seconds is not None else []),
        *([("images a second", f"{float(rate):,.0f}")] if rate is not None else []),
    ]
    return {
        "facts": facts,
        "loss": _chart(history, {"train_loss": "training", "val_loss": "validation"}, "loss", from_zero=True),
        "accuracy": _chart(
            history,
            {"train_accuracy": "training", "val_accuracy": "validation"},
            "accuracy",
            y_format=lambda value: f"{value * 100:.4g} %",
        ),
        "rate": _chart(
            history,
            {"learning_rate": "learning rate"},
            "learning rate",
            from_zero=True,
            y_format=scientific,
        ),
        "loss_note": "training with label smoothing, validation without"
        if settings.get("label_smoothing")
        else "",
        "settings": _flat(settings),
    }


def _chart(history: Sequence[Mapping[str, Any]], names: Mapping[str, str], label: str, **options: Any) -> Any:
    series = {
        title: [float(entry[name]) for entry in history if name in entry] for name, title in names.items()
    }
    series = {title: values for title, values in series.items() if values}
    return history_chart(series, y_label=label, **options) if series else None


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and short values."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            rows.append((prefix + name, text if len(text) <= 120 else text[:119] + "…"))
    return rows
