"""What a run came to: the stable JSON contract of `conveyor run --json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from components.common.errors import ConveyorError
from components.common.failures import error_fields
from components.common.refs import CompressedRef, EvaluationRef, PromotionRef, Ref, SnapshotRef
from components.common.step import Outcome

RefT = TypeVar("RefT", bound=Ref)


@dataclass
class Run:
    """A run of the pipeline, while it goes and when it has ended."""

    run_id: str
    store_url: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failed_step: str | None = None
    failed_seconds: float = 0.0
    error: ConveyorError | None = None
    cause: BaseException | None = None
    seconds: float = 0.0
    report: str | None = None
    retraining: dict[str, Any] | None = None
    """What `conveyor retrain` adds to the result."""
    unchanged: bool = False
    """Ended early, since nothing has changed since the last attempt; not a run of its own then."""

    def overhead_seconds(self) -> float:
        """Wall time outside the steps."""
        return self.seconds - sum(o.seconds for o in self.outcomes.values()) - self.failed_seconds

    def outcome_of(self, kind: type[RefT]) -> tuple[RefT, Outcome] | None:
        """The last step that produced a reference of that kind."""
        for outcome in reversed(self.outcomes.values()):
            if isinstance(outcome.output, kind):
                return outcome.output, outcome
        return None

    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        promotion = self.outcome_of(PromotionRef)
        refused = promotion is not None and not (promotion[0].promoted or promotion[0].awaiting_approval)
        # A schedule that finds nothing better has done its work.
        return 4 if refused and self.retraining is None else 0

    def to_json(self) -> dict[str, Any]:
        """The contract (docs/cli.md): parts that were not reached are null; `error` stands there only on failure."""
        steps: dict[str, Any] = {
            name: {
                "state": outcome.state,
                "seconds": round(outcome.seconds, 3),
                "key": outcome.key,
                "output": outcome.output.to_value(),
            }
            for name, outcome in self.outcomes.items()
        }
        if self.failed_step is not None:
            steps[self.failed_step] = {
                "state": "failed",
                "seconds": round(self.failed_seconds, 3),
                "key": None,
                "output": None,
            }
        result: dict[str, Any] = {
            "run": self.run_id,
            "store": self.store_url,
            "state": "failed" if self.error is not None else "unchanged" if self.unchanged else "succeeded",
            "seconds": round(self.seconds, 3),
            "steps": steps,
            "ingest": self._ingest(),
            "metrics": self._metrics(),
            "model": self._model(),
            "compressed": self._compressed(),
            "promoted": self._promoted(),
            "awaiting_approval": self._awaits_approval(),
            "report": self.report,
        }
        if self.retraining is not None:
            result["retraining"] = self.retraining
        if self.error is not None:
            result["error"] = {"step": self.failed_step, **error_fields(self.error)}
        return result

    def _ingest(self) -> dict[str, Any] | None:
        found = self.outcome_of(SnapshotRef)
        if found is None:
            return None
        snapshot = found[0]
        return {
            "accepted": snapshot.num_accepted,
            "quarantined": snapshot.num_quarantined,
            "reasons": dict(snapshot.reasons),
            "duplicates": snapshot.num_duplicates,
        }

    def _metrics(self) -> dict[str, float] | None:
        found = self.outcome_of(EvaluationRef)
        return dict(found[0].metrics) if found else None

    def _model(self) -> dict[str, Any] | None:
        found = self.outcome_of(PromotionRef)
        return {"version": found[0].model_version, "digest": found[0].model} if found else None

    def _promoted(self) -> bool:
        found = self.outcome_of(PromotionRef)
        return found is not None and found[0].promoted

    def _awaits_approval(self) -> bool:
        found = self.outcome_of(PromotionRef)
        return found is not None and found[0].awaiting_approval

    def _compressed(self) -> dict[str, Any] | None:
        found = self.outcome_of(CompressedRef)
        if found is None:
            return None
        compressed, outcome = found
        candidates = [
            {
                "name": candidate.name,
                "accuracy": candidate.accuracy,
                "accuracy_validation": candidate.accuracy_validation,
                "latency_ms": latency_ms(outcome.measurements, candidate.name),
                "size_bytes": candidate.size_bytes,
            }
            for candidate in compressed.candidates
        ]
        chosen = next(c for c in candidates if c["name"] == compressed.chosen)
        return {"candidates": candidates, "chosen": chosen}


def latency_ms(measurements: Mapping[str, Any], name: str) -> float | None:
    """Median latency at batch 1 of one candidate (or of `original`), from what compress measured."""
    value = measurements.get("latency", {}).get(name, {}).get("batch_1", {}).get("p50_ms")
    return float(value) if value is not None else None


def refused_before_start(error: ConveyorError, store_url: str | None) -> dict[str, Any]:
    """The same contract for a run that its settings kept from starting."""
    run = Run(run_id="", store_url=store_url or "", error=error)
    return run.to_json() | {"run": None, "store": store_url}
