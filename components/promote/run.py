"""The promote step: register the chosen model, and make it the champion where it passes every gate."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from components.common.blobs import Blobs
from components.common.canonical import Json, canonical_json, digest_json
from components.common.errors import StepError
from components.common.refs import (
    CompressedRef,
    EvaluationRef,
    ModelRef,
    PromotionRef,
    ShardsRef,
    SnapshotRef,
)
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.common.trees import Tree
from components.models.spec import ModelSpec
from components.promote.config import PromoteConfig
from components.promote.contest import Contest
from components.promote.documents import Decision, GateReport, Move, Version
from components.promote.gates import judge
from components.promote.lineage import challenger_digest, lineage
from components.promote.registry import Pointer, Registry

NAME = "promote"
MAX_TRIES = 8
"""How often the decision is taken anew because another promoter was quicker."""


class Inputs(StepInputs):
    """What promote works on; all of it is lineage."""

    compressed: CompressedRef
    """The candidates; the chosen one is the challenger."""
    evaluation: EvaluationRef
    """Of the uncompressed network."""
    snapshot: SnapshotRef
    """Its test split, as original images, is what both models answer."""
    shards: ShardsRef
    model: ModelRef

    def challenger(self) -> str:
        return challenger_digest(self.compressed, self.evaluation, self.snapshot, self.shards, self.model)


@dataclass(frozen=True)
class Standing:
    """How things stood when the challenger came: what its key holds, and what it is compared with."""

    pointer: Pointer
    champion: int | None
    """The champion to beat; for a challenger that is the champion by now, the one before it."""
    champion_model: str | None
    rolled_back: bool
    """This very model was rolled back before."""
    own: Move | None = None
    """The move that made the challenger the champion that it is now."""

    @property
    def forced(self) -> bool:
        return self.own is not None and self.own.action != "promote"


def depends_on(config: PromoteConfig, inputs: Inputs, store: Store) -> dict[str, Json]:
    """The champion that was read. Once the challenger is the champion, that is still the one before it, so that an
    unchanged rerun finds its record."""
    registry = Registry(store, registry_name(config, inputs.snapshot))
    now = standing(registry, inputs)
    champion: Json = None
    if now.champion is not None:
        champion = {"version": now.champion, "model": now.champion_model}
    return {
        "registry": registry.name,
        "champion": champion,
        "rolled_back": now.rolled_back,
        "forced": now.forced,
    }


def registry_name(config: PromoteConfig, snapshot: SnapshotRef) -> str:
    """The setting, or the data set's name with what object names cannot hold replaced."""
    if config.registry is not None:
        return config.registry
    return re.sub(r"[^A-Za-z0-9_-]+", "-", snapshot.dataset).strip("-_")[:63] or "model"


def standing(registry: Registry, inputs: Inputs) -> Standing:
    """Read the champion pointer, and see whether it names this challenger already."""
    pointer = registry.pointer()
    document, model = pointer.document, inputs.compressed.chosen_candidate().model
    if pointer.champion is not None and registry.version(pointer.champion).challenger == inputs.challenger():
        own = document.promotion_of(pointer.champion) or document.moves[-1]
        return Standing(pointer, own.before, own.before_model, rolled_back=False, own=own)
    return Standing(pointer, pointer.champion, document.model(), document.rolled_back(model))


def run(config: PromoteConfig, inputs: Inputs, context: StepContext) -> PromotionRef:
    """Register, compare, decide, and move the pointer; taken anew where another promoter moved it meanwhile."""
    registry = Registry(context.store, registry_name(config, inputs.snapshot))
    settings = digest_json(config.key_fields())
    contest: Contest | None = None
    for _ in range(MAX_TRIES):
        now = standing(registry, inputs)
        if now.own is not None and now.own.output is not None and now.own.settings == settings:
            # Killed after the move and before the record: what was decided then is the result.
            return PromotionRef.model_validate_json(canonical_json(now.own.output))
        version = registry.claim(_draft(registry, inputs, context.blobs))
        contest = contest or Contest(config, registry, inputs.snapshot, context)
        challenger = contest.challenger(version, inputs.compressed, inputs.evaluation)
        champion = contest.champion(now.champion) if now.champion is not None else None
        gates = judge(config, challenger, champion, rolled_back=now.rolled_back)
        decision = _decide(version.number, gates, now, approval=config.approval)
        output = _publish(version, decision, context)
        _tell(decision, contest, context)
        registry.write_decision(decision)
        if not decision.promoted or now.own is not None:
            return output
        move = Move(
            action="promote",
            before=now.champion,
            before_model=now.champion_model,
            after=version.number,
            after_model=version.spec.model,
            at=utc_now(),
            reason=decision.reason,
            output=output.to_value(),
            settings=settings,
        )
        if registry.move(now.pointer, move):
            return output
        context.reporter.info("promote: another model was promoted meanwhile; comparing with that one")
    raise StepError(
        "the champion kept changing while this model was being compared with it",
        where=registry.where("champion.json"),
        found=f"{MAX_TRIES} lost races",
        todo="run again when fewer pipelines promote to this registry",
    )


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _draft(registry: Registry, inputs: Inputs, blobs: Blobs) -> Version:
    """What the version will be, but for its number."""
    chosen, original = inputs.compressed.chosen_candidate(), inputs.evaluation.metrics
    return Version(
        registry=registry.name,
        number=1,
        challenger=inputs.challenger(),
        created=utc_now(),
        spec=ModelSpec.from_compressed(inputs.compressed),
        metrics={
            "accuracy": chosen.accuracy,
            "accuracy_validation": chosen.accuracy_validation,
            **{f"original_{name}": value for name, value in original.items()},
        },
        num_test=inputs.snapshot.splits.get("test", 0),
        lineage=lineage(
            inputs.snapshot, inputs.shards, inputs.model, inputs.evaluation, inputs.compressed, blobs
        ),
    )


def _decide(number: int, gates: tuple[GateReport, ...], now: Standing, *, approval: bool) -> Decision:
    failed = [gate for gate in gates if not gate.passed]
    by_name = {gate.name: gate for gate in gates}
    promoted = not failed
    # What is the champion already needs nobody's word.
    awaiting = promoted and approval and now.own is None
    if failed:
        reason = "; ".join(f"{gate.name}: {gate.detail}" for gate in failed)
    elif now.champion is None:
        reason = f"the first champion; {by_name['min_accuracy'].detail}"
    else:
        reason = f"against version {now.champion}: {by_name['not_inferior'].detail}"
    if now.own is not None and now.forced:
        by = now.own.reason if now.own.action == "approve" else f"promoted by hand ({now.own.reason})"
        promoted, reason = True, f"{by}; the gates say: {reason}"
    elif now.own is not None and failed:
        reason += "; it stays the champion until it is rolled back (conveyor models rollback)"
    if awaiting:
        promoted, reason = False, f"{reason}; awaiting approval (conveyor models promote {number})"
    return Decision(
        number=number,
        promoted=promoted,
        awaiting_approval=awaiting,
        reason=reason,
        champion_before=now.champion,
        gates=gates,
        decided=utc_now(),
    )


def _publish(version: Version, decision: Decision, context: StepContext) -> PromotionRef:
    """The reference, and the tree behind it: the model, its spec and the gates without what clocks said."""
    spec = version.spec
    gates: Json = [gate.model_dump(mode="json", exclude={"measured"}) for gate in decision.gates]
    tree = Tree.write(
        context.blobs,
        {
            "model.onnx": (spec.model, spec.size_bytes),
            "spec.json": context.blobs.put(spec.to_json()),
            "gates.json": context.blobs.put(canonical_json({"version": 1, "gates": gates})),
        },
    )
    return PromotionRef(
        tree=tree,
        registry=version.registry,
        promoted=decision.promoted,
        awaiting_approval=decision.awaiting_approval,
        model_version=version.number,
        model=spec.model,
        champion_before=decision.champion_before,
        gates={gate.name: gate.passed for gate in decision.gates},
        reason=decision.reason,
    )


def _tell(decision: Decision, contest: Contest, context: StepContext) -> None:
    context.measure["gates"] = {gate.name: gate.measured for gate in decision.gates if gate.measured}
    context.measure["latency"] = contest.latency_values()
    for gate in decision.gates:
        say = context.reporter.info if gate.passed else context.reporter.warning
        say(f"promote: {gate.name} {'passed' if gate.passed else 'refused'}: {gate.detail}")
    if decision.awaiting_approval:
        context.reporter.info(
            f"promote: version {decision.number} awaits approval: conveyor models promote {decision.number}"
        )
