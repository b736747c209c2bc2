"""One rank joins the others, by the engine that the placement names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from components.train.collectives.base import Collective, Engine
from components.train.collectives.inline import Inline


@contextmanager
def join(engine: Engine) -> Iterator[Collective]:
    """Join the group that the launcher described in this process's environment."""
    collective: Collective
    if engine == "horovod":
        from components.train.collectives.horovod import Horovod

        collective = Horovod()
    elif engine == "ddp":
        from components.train.collectives.ddp import Ddp

        collective = Ddp(
            rank=int(os.environ["CONVEYOR_RANK"]),
            local_rank=int(os.environ["CONVEYOR_LOCAL_RANK"]),
            world_size=int(os.environ["CONVEYOR_WORLD_SIZE"]),
            init_method=os.environ["CONVEYOR_INIT_METHOD"],
        )
    else:
        collective = Inline()
    # Closed only after success: with the others still at work it would wait for them, and a failing rank is to end.
    yield collective
    collective.close()
