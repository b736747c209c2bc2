"""A training in a process of its own, to be killed: `python -m support.train_driver STORE`.

Reads `{"config": ..., "shards": ...}` from stdin; prints the resulting reference and measurements as JSON.
"""

import json
import sys

from components.common.canonical import Json, canonical_json
from components.common.failures import graceful, report_failure
from components.common.progress import make_reporter
from components.common.refs import ShardsRef
from components.common.step import execute
from components.common.store import open_store
from components.train import run
from components.train.config import TrainConfig


def main() -> int:
    document = json.load(sys.stdin)
    config = TrainConfig.model_validate_json(json.dumps(document["config"]))
    shards = ShardsRef.model_validate_json(json.dumps(document["shards"]))
    try:
        with graceful():
            outcome = execute(
                run, config, run.Inputs(shards=shards), open_store(sys.argv[1]), make_reporter()
            )
    except BaseException as error:  # noqa: BLE001 - as the command line does
        return report_failure(error)
    result: dict[str, Json] = {
        "output": outcome.output.to_value(),
        "key": outcome.key,
        "measured": dict(outcome.measurements),
    }
    sys.stdout.write(canonical_json(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
