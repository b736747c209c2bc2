"""The facts as Prometheus metrics: base units, one family a question."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric

from pipelines.attempts import AttemptState
from pipelines.exporter.facts import UNFINISHED, Facts, ModelFacts, RunFacts

RUN_STATES = ("succeeded", "failed", UNFINISHED)
STEP_STATES = ("done", "reused", "failed")


def families(facts: Facts) -> Iterator[Metric]:
    """All of them but those about the exporter itself."""
    yield gauge("conveyor_runs", "Runs in the store.", facts.num_runs)
    states = {state: facts.by_state.get(state, 0) for state in (*RUN_STATES, *sorted(facts.by_state))}
    yield labelled(
        "conveyor_recent_runs",
        "The newest runs (at most 500), by state; unfinished ones run now, or were killed.",
        "state",
        states,
    )
    if facts.last is not None:
        yield from _last_run(facts.last)
    if facts.last_succeeded is not None:
        yield gauge(
            "conveyor_last_success_timestamp_seconds",
            "When a run succeeded last (a refused model is a success).",
            facts.last_succeeded,
        )
    yield from _figures(facts)
    yield from _models(facts.models)


def _last_run(run: RunFacts) -> Iterator[Metric]:
    about = GaugeMetricFamily(
        "conveyor_last_run_info", "The run that ended last.", labels=("run", "state", "decision")
    )
    decision = "promoted" if run.promoted else "awaiting_approval" if run.awaiting_approval else "none"
    about.add_metric((run.run, run.state, decision), 1)
    yield about
    yield gauge(
        "conveyor_last_run_success", "1 where the last run succeeded, 0 where not.", run.state == "succeeded"
    )
    yield gauge("conveyor_last_run_ended_timestamp_seconds", "When the last run ended.", run.ended)
    yield gauge("conveyor_last_run_duration_seconds", "Wall time of the last run.", run.seconds)
    yield labelled(
        "conveyor_last_run_step_duration_seconds",
        "Wall time of each step of the last run.",
        "step",
        {step: seconds for step, (_, seconds) in run.steps.items()},
    )
    steps = GaugeMetricFamily(
        "conveyor_last_run_step_state",
        "How each step of the last run ended: 1 for the state that it is in.",
        labels=("step", "state"),
    )
    for step, (now, _) in run.steps.items():
        for state in STEP_STATES:
            steps.add_metric((step, state), state == now)
    yield steps


def _figures(facts: Facts) -> Iterator[Metric]:
    """Each of the newest run that has it: a run that failed early must not make them vanish."""
    if facts.with_ingest is not None and facts.with_ingest.ingest is not None:
        ingest = facts.with_ingest.ingest
        yield labelled(
            "conveyor_ingest_images",
            "Images of the newest snapshot, by what became of them.",
            "status",
            {status: ingest[name] for status, name in _STATUSES.items()},
        )
        yield labelled(
            "conveyor_ingest_quarantined_images",
            "Images of the newest snapshot that were quarantined, by reason.",
            "reason",
            ingest["reasons"],
        )
    if facts.with_accuracy is not None and facts.with_accuracy.accuracy is not None:
        yield gauge(
            "conveyor_accuracy_ratio",
            "Accuracy of the newest uncompressed model, on its test split.",
            facts.with_accuracy.accuracy,
        )
    if facts.with_chosen is not None and facts.with_chosen.chosen is not None:
        chosen = facts.with_chosen.chosen
        yield gauge(
            "conveyor_compressed_accuracy_ratio",
            "Accuracy of the newest compressed model, on its test split.",
            chosen["accuracy"],
        )
        yield gauge(
            "conveyor_compressed_size_bytes", "Size of the newest compressed model.", chosen["size_bytes"]
        )
        if chosen["latency_ms"] is not None:
            yield gauge(
                "conveyor_compressed_latency_seconds",
                "Median latency of the newest compressed model, one image at a time, where it was made.",
                chosen["latency_ms"] / 1000,
            )


_STATUSES = {"accepted": "accepted", "quarantined": "quarantined", "duplicate": "duplicates"}


def _models(models: Sequence[ModelFacts]) -> Iterator[Metric]:
    def by_registry(name: str, text: str, values: Mapping[str, float | None]) -> Metric:
        return labelled(name, text, "registry", {k: v for k, v in values.items() if v is not None})

    champions = {model.registry: model.champion for model in models if model.champion is not None}
    yield by_registry(
        "conveyor_champion_version", "The version that serves.", {n: v.number for n, v in champions.items()}
    )
    yield by_registry(
        "conveyor_champion_promoted_timestamp_seconds",
        "When the champion became it.",
        {model.registry: model.promoted for model in models},
    )
    yield by_registry(
        "conveyor_champion_accuracy_ratio",
        "The champion's accuracy on the test split that it was registered with.",
        {name: version.metrics.get("accuracy") for name, version in champions.items()},
    )
    yield by_registry(
        "conveyor_champion_size_bytes",
        "Size of the champion's file.",
        {name: version.spec.size_bytes for name, version in champions.items()},
    )
    yield by_registry(
        "conveyor_model_versions",
        "Registered versions.",
        {model.registry: model.num_versions for model in models},
    )
    yield by_registry(
        "conveyor_model_versions_awaiting_approval",
        "Versions that passed the gates and wait for a person (of the newest 16).",
        {model.registry: model.num_awaiting for model in models},
    )
    yield from _retraining([model for model in models if model.attempt is not None])


def _retraining(models: Sequence[ModelFacts]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "conveyor_retraining_last_attempt_state",
        "How the last attempt at a better model ended: 1 for the state that it is in.",
        labels=("registry", "state"),
    )
    ended = GaugeMetricFamily(
        "conveyor_retraining_last_attempt_ended_timestamp_seconds",
        "When the last attempt ended.",
        labels=("registry",),
    )
    checks = GaugeMetricFamily(
        "conveyor_retraining_unchanged_checks",
        "How often nothing had changed since the last attempt.",
        labels=("registry",),
    )
    checked = GaugeMetricFamily(
        "conveyor_retraining_last_check_timestamp_seconds",
        "When a schedule last saw that nothing had changed.",
        labels=("registry",),
    )
    seen = GaugeMetricFamily(
        "conveyor_retraining_last_seen_timestamp_seconds",
        "When a retraining last began, went on, ended, or saw that nothing had changed.",
        labels=("registry",),
    )
    for model in models:
        assert model.attempt is not None
        if model.retraining_seen is not None:
            seen.add_metric((model.registry,), model.retraining_seen)
        for state in get_args(AttemptState):
            states.add_metric((model.registry, state), state == model.attempt.state)
        if model.attempt.ended is not None:
            ended.add_metric((model.registry,), datetime.fromisoformat(model.attempt.ended).timestamp())
        checks.add_metric((model.registry,), model.num_checks)
        if model.checked is not None:
            checked.add_metric((model.registry,), model.checked)
    yield from (seen, states, ended, checks, checked)


def gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
