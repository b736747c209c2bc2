"""All questions, in the order in which the answers are shown."""

from pipelines.doctor import libraries, services
from pipelines.doctor.check import Probe

# Its own limit ends a question with a better message; this one is for what its own limit does not see.
LIBRARY_LIMIT_S = libraries.LOAD_LIMIT_S + 20
SERVICE_LIMIT_S = 40.0


def probes(store_url: str) -> list[Probe]:
    """What to ask about this machine and the store at `store_url`."""
    return [
        Probe("machine", services.machine, SERVICE_LIMIT_S),
        Probe("torch", libraries.torch, LIBRARY_LIMIT_S),
        Probe("torchvision", libraries.torchvision, LIBRARY_LIMIT_S),
        Probe("DALI", libraries.dali, LIBRARY_LIMIT_S),
        Probe("Horovod", libraries.horovod, LIBRARY_LIMIT_S),
        Probe("ONNX Runtime", libraries.onnxruntime, LIBRARY_LIMIT_S),
        Probe("GPUs", libraries.gpus, LIBRARY_LIMIT_S),
        Probe("store", lambda: services.store(store_url), SERVICE_LIMIT_S),
        Probe("Docker", services.docker, SERVICE_LIMIT_S),
        Probe("cluster", services.cluster, SERVICE_LIMIT_S),
        Probe("Kubeflow", services.kubeflow, SERVICE_LIMIT_S),
    ]
