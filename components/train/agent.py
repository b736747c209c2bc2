"""A member on a worker of an MPIJob: `python -m components.train.agent`, started over ssh by the launcher.

sshd gives a session nothing of the pod's environment, and a command line can be read by everyone on the host: what is
to be done, the environment with its credentials included, comes in one JSON line through stdin.
"""

import json
import os
import signal
import sys
import threading
from typing import Any

from components.common.failures import graceful, leave, report_failure
from components.common.progress import make_reporter
from components.common.step import execute
from components.common.store import StoreSettings, open_store

MAX_DOCUMENT = 4 << 20


def main() -> int:
    try:
        with graceful():
            document = json.loads(sys.stdin.buffer.readline(MAX_DOCUMENT))
            os.environ.update(document["environment"])
            threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()
            _train(document)
    except BaseException as error:  # noqa: BLE001 - as the command line does
        return report_failure(error)
    return 0


def _train(document: dict[str, Any]) -> None:
    from components.train import run
    from components.train.config import TrainConfig

    settings = document["store_settings"]
    execute(
        run,
        TrainConfig.model_validate_json(json.dumps(document["config"])),
        run.Inputs.model_validate_json(json.dumps(document["inputs"])),
        open_store(
            document["store_url"],
            StoreSettings.model_validate_json(json.dumps(settings)) if settings else None,
        ),
        make_reporter(),
    )


def _end_with_launcher() -> None:
    """Stdin closes when the launcher is gone, before a heartbeat would notice."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    leave(main())
