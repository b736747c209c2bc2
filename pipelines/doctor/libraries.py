"""Questions to the libraries. Each may crash or hang while it loads, so it is asked in a process of its own."""

import json
import shutil
import subprocess
import sys
from typing import Any

from pipelines.doctor.check import Check

LOAD_LIMIT_S = 90.0
"""A first import of torch from a cold disk takes half a minute."""

ASK_TORCH = """
import torch
answer = {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}
"""
ASK_TORCHVISION = """
from components.common import torchvision_compat
version = torchvision_compat.import_torchvision().__version__
answer = {"version": version, "cured": bool(torchvision_compat._kept)}
"""
ASK_DALI = """
import nvidia.dali as dali
from nvidia.dali import fn, pipeline_def
@pipeline_def(batch_size=1, num_threads=1, device_id=None)
def graph():
    return fn.constant(idata=7)
pipeline = graph()
pipeline.build()
assert pipeline.run()[0].as_array().item() == 7
answer = {"version": dali.__version__}
"""
ASK_HOROVOD = """
import horovod, horovod.torch as hvd
answer = {"version": horovod.__version__, "gloo": bool(hvd.gloo_built()), "nccl": bool(hvd.nccl_built())}
"""
ASK_ONNXRUNTIME = """
import onnxruntime
answer = {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
"""
ASK_GPUS = """
import torch
answer = {"names": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}
"""


class NotThereError(Exception):
    """The library is not installed."""


class BrokenError(Exception):
    """It is installed and does not load."""


def ask(code: str) -> dict[str, Any]:
    """Run `code` in a new Python; its variable `answer` comes back. Raises `NotThereError` and `BrokenError`."""
    program = f"import json, warnings; warnings.simplefilter('ignore')\n{code}\nprint(json.dumps(answer))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=LOAD_LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokenError(f"it does not load within {LOAD_LIMIT_S:.0f} s") from None
    if done.returncode == 0:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    last = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    if last.startswith("ModuleNotFoundError"):
        raise NotThereError(last)
    raise BrokenError(last[:300])


def torch() -> Check:
    """Needed by every step from train on."""
    try:
        answer = ask(ASK_TORCH)
    except (NotThereError, BrokenError) as error:
        return Check("torch", "failed", str(error), "make setup, or pip install 'conveyor[train]'")
    build = f"built for CUDA {answer['cuda']}" if answer["cuda"] else "CPU build"
    return Check("torch", "ok", f"{answer['version']}, {build}, {answer['threads']} threads")


def torchvision() -> Check:
    """Needed for named architectures and the fallback loader."""
    try:
        answer = ask(ASK_TORCHVISION)
    except (NotThereError, BrokenError) as error:
        return Check("torchvision", "failed", str(error), "make setup, or pip install 'conveyor[train]'")
    cured = ", without its compiled part, which this build of torch cannot load (not needed)"
    return Check("torchvision", "ok", answer["version"] + (cured if answer["cured"] else ""))


def dali() -> Check:
    """Needed by ingest and preprocess; training can do without it."""
    try:
        answer = ask(ASK_DALI)
    except (NotThereError, BrokenError) as error:
        return Check("DALI", "failed", str(error), "make setup, or pip install 'conveyor[data]' (Linux only)")
    return Check("DALI", "ok", f"{answer['version']}, a pipeline ran on the CPU")


def horovod() -> Check:
    """Done without: DDP trains with several processes as well."""
    cure = (
        "install g++ 11 or newer and make (apt-get install g++ make), then make setup; until then DDP is used"
    )
    try:
        answer = ask(ASK_HOROVOD)
    except NotThereError as error:
        return Check("Horovod", "missing", str(error), cure)
    except BrokenError as error:
        again = f"built for another torch? {sys.executable} -m pip uninstall -y horovod, then make setup"
        return Check("Horovod", "failed", str(error), again)
    gloo, nccl = ("yes" if answer[name] else "no" for name in ("gloo", "nccl"))
    found = f"{answer['version']}, Gloo: {gloo}, NCCL: {nccl}"
    if not answer["gloo"]:
        return Check(
            "Horovod", "failed", found, "only Gloo needs neither ssh nor MPI: build it with make setup"
        )
    if not answer["nccl"] and _gpus():
        return Check("Horovod", "ok", found, "for NCCL: set CUDA_HOME to a CUDA toolkit, then make setup")
    return Check("Horovod", "ok", found)


def onnxruntime() -> Check:
    """Needed by compress and predict."""
    try:
        answer = ask(ASK_ONNXRUNTIME)
    except (NotThereError, BrokenError) as error:
        return Check("ONNX Runtime", "failed", str(error), "make setup, or pip install 'conveyor[compress]'")
    return Check("ONNX Runtime", "ok", f"{answer['version']}, {', '.join(answer['providers'])}")


def gpus() -> Check:
    """Done without: everything runs on the CPU."""
    present = _gpus()
    if not present:
        cure = "needs an NVIDIA GPU and its driver; without one everything runs on the CPU"
        return Check("GPUs", "missing", "none (nvidia-smi finds no device)", cure)
    try:
        usable = ask(ASK_GPUS)["names"]
    except (NotThereError, BrokenError):
        usable = []
    if not usable:
        cure = "install PyPI's build of torch, and a driver that is new enough for its CUDA"
        return Check("GPUs", "failed", f"{len(present)} that torch cannot use: {', '.join(present)}", cure)
    return Check("GPUs", "ok", f"{len(usable)}: {', '.join(usable)}")


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.split(" (UUID")[0] for line in done.stdout.splitlines() if line.startswith("GPU")]
