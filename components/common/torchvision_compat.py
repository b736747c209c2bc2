"""torchvision from the package index beside a CPU build of torch: its compiled part does not load there.

The Python part (models, transforms, datasets) works once two operators are declared that it only looks up by name.
"""

import sys
from types import ModuleType
from typing import Any

_NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []
"""The library object: torch removes the declared operators again when it is collected."""


def import_torchvision() -> ModuleType:
    """Import torchvision, curing `operator torchvision::nms does not exist` where that comes up.

    After the cure `torchvision.io`'s decoders and `torchvision.ops.nms` do not work; nothing here uses them. The
    operators must never be declared first: where the compiled part does load, declaring them twice aborts.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _forget_half_imported()
        _declare_operators()
        import torchvision
    module: ModuleType = torchvision
    return module


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms" + _NMS_SCHEMA)
    library.define("qnms" + _NMS_SCHEMA)
    _kept.append(library)
