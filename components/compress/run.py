"""The compress step: smaller and faster twins of a trained network, all measured, one chosen."""

from components.common.canonical import Json
from components.common.refs import CompressedRef, ModelRef, ShardsRef
from components.common.step import StepContext, StepInputs
from components.common.store.base import Store
from components.compress.config import CompressConfig
from components.compress.resolve import builds, place, read_measurements, resolve

NAME = "compress"


class Inputs(StepInputs):
    """What compress works on."""

    model: ModelRef
    """The trained network."""
    shards: ShardsRef
    """Its data: training split to heal and calibrate with, validation split to choose by, test split to report."""


def depends_on(config: CompressConfig, inputs: Inputs, _store: Store) -> dict[str, Json]:
    """Where and with what the numbers are made, and recorded latencies where these make the choice."""
    return {
        "place": place(config, inputs.model).model_dump(mode="json"),
        "builds": builds(),
        "measurements": read_measurements(config.measurements),
    }


def run(config: CompressConfig, inputs: Inputs, context: StepContext) -> CompressedRef:
    """Make the candidates, judge each on the validation split, measure all, choose, and report on the test split."""
    plan, where = resolve(config, inputs.model, inputs.shards), place(config, inputs.model)
    recorded = read_measurements(config.measurements)
    context.reporter.info(
        "compress: chosen from the data",
        ratios=", ".join(f"{ratio:g}" for ratio in plan.ratios) or "none",
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        max_accuracy_drop=plan.drop,
        device=where.device,
        threads=where.threads,
    )
    # torch takes seconds to import, which a rerun that only looks for its record need not wait for.
    from components.compress.work import compress

    return compress(config, inputs.model, inputs.shards, plan, where, recorded, context)
