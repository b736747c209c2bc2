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


def invoke(arguments: Sequence[str], graph: "Graph | None" = None) -> int:
    """Run one command line and return its exit status. `graph` is the table of steps, if not the usual one."""
    from pipelines.app import invoke as run
    from pipelines.graph import GRAPH

    return run(arguments, graph or GRAPH)


def main() -> None:
    """What the installed command runs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupted)
    status = invoke(sys.argv[1:])

    from components.common.failures import leave

    leave(status)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    """Before the first import has ended, and after the last word was said, there is nothing to tidy up."""
    os.write(2, b"interrupted\n")
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
