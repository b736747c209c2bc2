"""The command `conveyor`. Imports almost nothing itself, so that Ctrl-C is answered from the first moment on."""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.graph import Graph

EXIT_INTERRUPTED = 130
WATCH = "--watch"
"""What a step's pod runs beside the step (components/common/watch.py)."""


def invoke(arguments: Sequence[str], graph: "Graph | None" = None) -> int:
    """Run one command line and return its exit status. `graph` is the table of steps, if not the usual one."""
    from pipelines.app import invoke as run
    from pipelines.graph import GRAPH

    return run(arguments, graph or GRAPH)


def main() -> None:
    """What the installed command runs."""
    watching = WATCH in sys.argv[1:]
    if watching:
        from components.common.watch import stand_by

        # Before anything large is imported: this container is there for as long as its step.
        if not stand_by():
            os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    status = invoke(sys.argv[1:])

    from components.common.failures import leave

    # A Job's failure policy looks at every container's status; only the step's own shall say how it ended.
    leave(0 if watching else status)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """Before the first import has ended, and after the last word was said, there is nothing to tidy up."""
    os.write(2, b"interrupted\n")
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
