"""Retraining: a policy around the runner that ends early where nothing changed, and starts from the champion's weights."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from components.common.blobs import Blobs
from components.common.canonical import canonical_json
from components.common.errors import ConveyorError, InputError, StepError
from components.common.failures import EXIT_INTERRUPTED
from components.common.progress import Reporter
from components.common.refs import ModelRef, PromotionRef, Ref, SnapshotRef
from components.common.runs import point
from components.common.sections import RootBase
from components.common.store import Store
from components.common.trees import Tree
from components.promote.documents import Decision
from components.promote.registry import Pointer, Registry
from components.promote.run import registry_name
from pipelines.attempts import (
    Attempt,
    AttemptState,
    Basis,
    Retraining,
    Start,
    basis_of,
    read_retraining,
    swap_retraining,
)
from pipelines.executor import Executor, Here
from pipelines.graph import Graph, Step
from pipelines.policy import Policy
from pipelines.result import Run
from pipelines.runner import new_run_id, run_pipeline

WARM_START = "warm_start"
MAX_TRIES = 16


def retrain(
    graph: Graph,
    config: RootBase,
    store: Store,
    reporter: Reporter,
    *,
    run_id: str | None = None,
    executor: Executor | None = None,
) -> Run:
    """Run `graph` from the newest data, unless the last attempt had the same data, settings and code.

    Never raises. Killed at any time and called again it goes on with the same attempt: under its name, from the weights
    that it started from. Two at once come to one result. `Run.unchanged` says that there was nothing to do.
    """
    executor = executor or Here()
    policy = RetrainPolicy(graph, config, store, reporter, executor, named=run_id is not None)
    run = run_pipeline(
        graph, config, store, reporter, run_id=run_id or new_run_id(), executor=executor, policy=policy
    )
    run.retraining = run.retraining or policy.told(run)
    return run


class RetrainPolicy(Policy):
    """Compares after the first step, gives training the champion's weights, and notes how the attempt ended."""

    def __init__(
        self,
        graph: Graph,
        config: RootBase,
        store: Store,
        reporter: Reporter,
        executor: Executor,
        *,
        named: bool,
    ) -> None:
        self._graph, self._config, self._store = graph, config, store
        self._reporter, self._executor, self._named = reporter, executor, named
        self._registry: Registry | None = None
        self._attempt: Attempt | None = None
        self._last: Attempt | None = None

    def inputs(self, step: Step, run: Run) -> Mapping[str, Ref]:
        if self._attempt is None or self._attempt.start is None:
            return {}
        if WARM_START not in step.inputs_type().model_fields or WARM_START in step.inputs:
            return {}
        return {WARM_START: self._attempt.start.ref()}

    def goes_on(self, step: Step, run: Run) -> bool:
        output = run.outcomes[step.name].output
        if isinstance(output, SnapshotRef) and self._attempt is None:
            return self._begin(output, run)
        if isinstance(output, ModelRef):
            self._update(model=output.tree)
        return True

    def ended(self, run: Run) -> None:
        if self._attempt is not None and not (run.error and run.error.exit_code == EXIT_INTERRUPTED):
            self._end(run)
        run.retraining = self.told(run)

    def _end(self, run: Run) -> None:
        found = run.outcome_of(PromotionRef)
        if run.error is not None or found is None:
            reason = run.error.what if run.error is not None else None
            self._update(state="failed", reason=reason, ended=utc_now())
            return
        promotion = found[0]
        self._update(
            state=_state(promotion),
            reason=promotion.reason,
            model_version=promotion.model_version,
            records={name: outcome.key for name, outcome in run.outcomes.items()},
            ended=utc_now(),
        )

    def told(self, run: Run) -> dict[str, Any]:
        """The part `retraining` of the JSON result."""
        attempt = self._attempt or self._last
        outcome: str = attempt.state if attempt is not None else "failed"
        if run.error is not None:
            outcome = "interrupted" if run.error.exit_code == EXIT_INTERRUPTED else "failed"
        elif run.unchanged:
            outcome = "unchanged"
        return {
            "outcome": outcome,
            "warm_start": attempt.start.version if attempt is not None and attempt.start else None,
            "last_attempt": {
                "run": attempt.run,
                "outcome": attempt.state,
                "model_version": attempt.model_version,
                "began": attempt.began,
                "ended": attempt.ended,
            }
            if attempt is not None
            else None,
        }

    def _begin(self, snapshot: SnapshotRef, run: Run) -> bool:
        """Compare with the last attempt, and begin or go on with one. False where nothing has changed."""
        self._registry = Registry(self._store, registry_name(self._config.section("promote"), snapshot))
        basis = basis_of(self._graph, self._config, snapshot)
        for _ in range(MAX_TRIES):
            document, tag = read_retraining(self._store, self._registry.name)
            last = document.attempt
            if last is not None and last.basis == basis:
                if last.has_ended:
                    self._note_unchanged(document, tag, run)
                    return False
                if self._stands(last):
                    return self._join(last, run)
            else:
                done = self._done_already(basis, run, after=_newest(last))
                if done is not None:
                    if swap_retraining(self._store, self._registry.name, Retraining(attempt=done), tag):
                        self._note_unchanged(*read_retraining(self._store, self._registry.name), run)
                        return False
                    continue
            attempt = self._new(basis, run)
            if swap_retraining(self._store, self._registry.name, Retraining(attempt=attempt), tag):
                self._attempt = attempt
                self._say(last, attempt)
                return True
        raise _too_many(self._registry)

    def _new(self, basis: Basis, run: Run) -> Attempt:
        assert self._registry is not None
        pointer = self._registry.pointer()
        return Attempt(
            state="running",
            basis=basis,
            run=run.run_id,
            start=self._champion(pointer),
            champion=pointer.champion,
            began=utc_now(),
        )

    def _champion(self, pointer: Pointer) -> Start | None:
        """Its uncompressed network, from its lineage; None where there is none (any more), which is a cold start."""
        if pointer.champion is None:
            return None
        assert self._registry is not None
        try:
            version = self._registry.version(pointer.champion)
            model = read_model_ref(Blobs(self._store), str(version.lineage["references"]["model"]))
        except (ConveyorError, KeyError, ValueError) as error:
            self._reporter.warning(
                "the champion's network cannot be read: training starts from scratch",
                version=pointer.champion,
                error=str(error).splitlines()[0],
            )
            return None
        return Start(version=version.number, model=model.to_value())

    def _stands(self, attempt: Attempt) -> bool:
        """Whether an unfinished attempt can go on as it began: the champion is the same, or is its own work."""
        assert self._registry is not None
        champion = self._registry.pointer().champion
        if champion is None or champion == attempt.champion:
            return champion == attempt.champion
        lineage = self._registry.version(champion).lineage
        return attempt.model is not None and lineage.get("references", {}).get("model") == attempt.model

    def _join(self, attempt: Attempt, run: Run) -> bool:
        """Go on with an attempt that was killed, or is under way elsewhere: under its name, unless one was asked for."""
        self._attempt = attempt
        if attempt.state != "running":
            self._update(state="running", reason=None, ended=None)
        self._reporter.info(
            "retraining: going on with an attempt that has begun",
            run=attempt.run,
            warm_start=f"version {attempt.start.version}" if attempt.start else "none",
        )
        if not self._named and run.run_id != attempt.run:
            for name, outcome in run.outcomes.items():
                point(self._store, attempt.run, name, outcome.key)
            self._forget(run)
            run.run_id = attempt.run
        return True

    def _done_already(self, basis: Basis, run: Run, *, after: int) -> Attempt | None:
        """An ordinary run (here, on Kubernetes, in Kubeflow) that did all of it since version `after` is the last attempt."""
        assert self._registry is not None
        outcomes = dict(run.outcomes)
        for step in self._graph:
            if step.name in outcomes:
                continue
            edges = {field: outcomes[upstream].output for field, upstream in step.inputs.items()}
            inputs = step.inputs_type()(**edges)
            if challenger := getattr(inputs, "challenger", None):
                version = self._registry.find(challenger())
                decision = self._registry.decision(version.number) if version else None
                if version is None or decision is None or version.number <= after:
                    return None
                return Attempt(
                    state=_state(decision),
                    basis=basis,
                    run=run.run_id,
                    start=None,
                    champion=decision.champion_before,
                    model_version=version.number,
                    reason=decision.reason,
                    records={name: outcome.key for name, outcome in outcomes.items()},
                    began=decision.decided,
                    ended=decision.decided,
                )
            try:
                found = self._executor.find(step, self._config, inputs, self._store)
            except InputError:
                return None  # The step itself will say what is wrong.
            if found is None:
                return None
            outcomes[step.name] = found
        return None

    def _note_unchanged(self, document: Retraining, tag: str | None, run: Run) -> None:
        """Count the check (as well as it goes), and leave no run behind."""
        assert self._registry is not None
        assert document.attempt is not None
        self._last = document.attempt
        # Ingest's key may be another (an image's time changed): the next check is to find this one's record.
        keys = {name: outcome.key for name, outcome in run.outcomes.items()}
        attempt = document.attempt.model_copy(update={"records": {**document.attempt.records, **keys}})
        checked = Retraining(attempt=attempt, checks=document.checks + 1, checked=utc_now())
        swap_retraining(self._store, self._registry.name, checked, tag)
        self._reporter.info(
            f"retraining: nothing has changed since run {self._last.run} ({self._last.state.replace('_', ' ')})"
        )
        self._forget(run)
        run.unchanged = True
        run.run_id = self._last.run

    def _forget(self, run: Run) -> None:
        """Remove a run that turned out to be none; one that was named by its caller stays."""
        if not self._named:
            for info in list(self._store.list(f"runs/{run.run_id}/")):
                self._store.delete(info.key)

    def _update(self, **changes: Any) -> None:
        """Note something about the own attempt, unless it has ended (another try was quicker) or was replaced."""
        assert self._attempt is not None
        assert self._registry is not None
        mine = self._attempt
        self._attempt = mine.model_copy(update=changes)
        for _ in range(MAX_TRIES):
            document, tag = read_retraining(self._store, self._registry.name)
            now = document.attempt
            if now is None or (now.basis, now.start, now.began) != (mine.basis, mine.start, mine.began):
                return
            if now.has_ended:
                return
            changed = document.model_copy(update={"attempt": now.model_copy(update=changes)})
            if swap_retraining(self._store, self._registry.name, changed, tag):
                return

    def _say(self, last: Attempt | None, attempt: Attempt) -> None:
        if last is None:
            why = "the first attempt"
        else:
            why = f"changed since run {last.run}: {'; '.join(attempt.basis.changes_since(last.basis)) or 'the champion'}"
        start = f"version {attempt.start.version}" if attempt.start else "none: from scratch"
        self._reporter.info(f"retraining: {why}", warm_start=start)


def _state(decided: PromotionRef | Decision) -> AttemptState:
    if decided.awaiting_approval:
        return "awaiting_approval"
    return "promoted" if decided.promoted else "refused"


def _newest(last: Attempt | None) -> int:
    """The newest version that the last attempt knew of: only what came after it can be later than it."""
    return (last.model_version or last.champion or 0) if last is not None else 0


def read_model_ref(blobs: Blobs, tree: str) -> ModelRef:
    """The reference to a trained model, from its tree alone. Raises `StoreError` where it is gone or damaged."""
    entry = Tree.read(blobs, tree)["model.json"]
    fields = json.loads(blobs.read(entry.digest))
    if fields.pop("version", None) != 1:
        raise StepError("a model of an unknown version", where=f"model {tree}")
    return ModelRef.model_validate_json(canonical_json({**fields, "tree": tree}))


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _too_many(registry: Registry) -> StepError:
    return StepError(
        "the retraining document kept changing",
        where=registry.where(),
        todo="too many retrainings at once: run it again when fewer do",
    )
