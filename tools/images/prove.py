#!/usr/bin/env python3
"""Fail the build of an image whose Horovod or DALI does not load, or whose Horovod is built for another accelerator.

Run with the image's own Python and `cpu` or `cuda`. It needs neither a GPU nor a driver.
"""

import sys
import warnings


def main(accelerator: str) -> int:
    warnings.simplefilter("ignore")
    import horovod.torch as hvd
    import nvidia.dali

    gloo, nccl = bool(hvd.gloo_built()), bool(hvd.nccl_built())
    print(f"prove: Horovod with Gloo: {gloo}, with NCCL: {nccl}; DALI {nvidia.dali.__version__}")
    if not gloo or nccl != (accelerator == "cuda"):
        print(
            f"prove: an image for {accelerator} needs Horovod with Gloo and {'with' if accelerator == 'cuda' else 'without'} "
            "NCCL; look at what tools/images/horovod_wheel.py printed above",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
