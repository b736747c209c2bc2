"""Who must be able to talk to whom, and who must not: what network policies are judged by.

The pods are those that our own builders make, so that a label that changes on one side only is noticed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from components.cluster.config import KubernetesConfig, TrainingConfig
from components.cluster.jobs import launcher_job, step_job, training_job
from components.cluster.mpi import mpi_job
from components.cluster.names import labels
from support.network_policy import End, Host, Pod

NAMESPACE = "ml"
SETTINGS = KubernetesConfig(training=TrainingConfig(pods=2))
API = Host("192.0.2.10")
S3 = Host("52.216.0.1")
RECEIVER = Host("198.51.100.20")
PERSON = Host("203.0.113.7")
NODE_CREDENTIALS = Host("169.254.169.254")
NODE_CREDENTIALS_6 = Host("fd00:ec2::254")
IDENTITY_AGENT = Host("169.254.170.23")
IDENTITY_AGENT_6 = Host("fd00:ec2::23")
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system", "10.0.9.2")
STRANGER = Pod({"app": "shop"}, NAMESPACE, "10.0.0.99")
FOREIGN = Pod({"app": "shop"}, "other", "10.0.5.5")
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring", "10.0.6.6")
PROXY = Host("198.51.100.30")
STS = Host("52.94.0.1")
STORE_INSIDE = Pod({"app": "ceph-rgw"}, "storage", "10.0.7.7")
"""An external store that runs in the cluster, in a namespace of its own."""
KFP_API = Pod({"app": "ml-pipeline"}, "kubeflow", "10.0.8.8")
KFP_METADATA = Pod({"component": "metadata-grpc-server"}, "kubeflow", "10.0.8.9")
GLOO = 41237
"""One of the ephemeral ports that Gloo takes."""


@dataclass(frozen=True)
class Flow:
    """One connection, and why it is needed, or what it would do."""

    source: End
    target: End
    port: int
    why: str
    protocol: str = "TCP"

    def __str__(self) -> str:
        return self.why


def _pod(template: Mapping[str, Mapping[str, Mapping[str, str]]], ip: str) -> Pod:
    return Pod(template["metadata"]["labels"], NAMESPACE, ip)


def _template(job: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]]) -> dict:  # type: ignore[type-arg]
    return dict(job["spec"]["template"])


STEP = _pod(_template(step_job("j", "ingest", "r", SETTINGS, config_map="c")), "10.0.0.11")
TRAIN = _pod(_template(training_job("j", "r", SETTINGS, config_map="c")), "10.0.0.12")
PEER = _pod(_template(training_job("j", "r", SETTINGS, config_map="c")), "10.0.0.13")
LAUNCHER = _pod(
    _template(launcher_job("j", "r", SETTINGS, config_map="c", command_args=["run"])), "10.0.0.14"
)
_MPI = mpi_job("j", "r", SETTINGS, config_map="c")["spec"]["mpiReplicaSpecs"]
MPI_LAUNCHER = _pod(_MPI["Launcher"]["template"], "10.0.0.15")
MPI_WORKER = _pod(_MPI["Worker"]["template"], "10.0.0.16")
STEPS = {"a step": STEP, "training": TRAIN, "an MPIJob's launcher": MPI_LAUNCHER, "its worker": MPI_WORKER}
"""Pods that the launcher makes, and that therefore no chart or manifest needs to be asked for."""


def _task(name: str, ip: str) -> Pod:
    """A task of a Kubeflow run: our labels (pipelines/kubeflow/task.py), and Argo's own."""
    argo = {"workflows.argoproj.io/workflow": "run-7", "workflows.argoproj.io/completed": "false"}
    return Pod({**labels(name, step=name), **argo}, NAMESPACE, ip)


KUBEFLOW = _task("ingest", "10.0.0.50")
KUBEFLOW_TRAIN = _task("train", "10.0.0.51")
KUBEFLOW_REPORT = _task("report", "10.0.0.52")
KUBEFLOW_TASKS = {"a task": KUBEFLOW, "its train task": KUBEFLOW_TRAIN, "its report": KUBEFLOW_REPORT}


def needed_by_kubeflow() -> list[Flow]:
    """What the pods of a Kubeflow run talk to besides the store: Argo's and Kubeflow's containers are in each of them."""
    flows = [Flow(KUBEFLOW_REPORT, RECEIVER, 443, "the run's report tells the webhook")]
    for name, pod in KUBEFLOW_TASKS.items():
        flows += [
            Flow(pod, API, 6443, f"{name} of Kubeflow: Argo's container reports; train makes Jobs"),
            Flow(pod, KFP_METADATA, 8080, f"{name} of Kubeflow writes what it did to the metadata server"),
            Flow(pod, KFP_API, 8887, f"{name} of Kubeflow asks the pipeline server's cache"),
            Flow(pod, DNS, 53, f"{name} of Kubeflow resolves names", "UDP"),
        ]
    return flows


def needed() -> list[Flow]:
    """What training and launching need, wherever the store is."""
    flows = [
        Flow(TRAIN, PEER, SETTINGS.training.port, "training pods meet at rank 0's coordinator"),
        Flow(TRAIN, PEER, GLOO, "Gloo connects every pair of training pods"),
        Flow(PEER, TRAIN, GLOO, "in both directions"),
        Flow(MPI_LAUNCHER, MPI_WORKER, SETTINGS.training.ssh_port, "an MPIJob's launcher starts its workers"),
        Flow(MPI_WORKER, MPI_LAUNCHER, GLOO, "the workers answer it"),
        Flow(LAUNCHER, API, 6443, "a launcher makes and follows Jobs"),
        Flow(LAUNCHER, API, 443, "through the Service where that is what the plugin sees"),
    ]
    for name, pod in {**STEPS, "a launcher": LAUNCHER}.items():
        flows += [
            Flow(pod, DNS, 53, f"{name} resolves names", "UDP"),
            Flow(pod, DNS, 53, f"{name} resolves long names", "TCP"),
        ]
    return flows


def forbidden() -> list[Flow]:
    """What nobody needs, and what a broken or bought library would like."""
    flows = [
        Flow(STRANGER, TRAIN, SETTINGS.training.port, "another pod of the namespace meddles with training"),
        Flow(FOREIGN, TRAIN, GLOO, "another namespace's pod meddles with training"),
        Flow(PERSON, TRAIN, GLOO, "somebody outside reaches a training pod"),
        Flow(STEP, TRAIN, GLOO, "another step reaches a training pod"),
        Flow(STRANGER, MPI_WORKER, SETTINGS.training.ssh_port, "another pod logs in to an MPIJob's worker"),
        Flow(PERSON, LAUNCHER, 8080, "somebody outside reaches a launcher"),
        Flow(STRANGER, STEP, 8080, "another pod reaches a step"),
        Flow(TRAIN, STRANGER, 80, "training reaches another pod of the namespace"),
        Flow(KUBEFLOW_TRAIN, TRAIN, GLOO, "a task of a Kubeflow run reaches a training pod"),
        Flow(TRAIN, KUBEFLOW_TRAIN, GLOO, "a training pod reaches a task of a Kubeflow run"),
    ]
    for name, pod in {**STEPS, "a launcher": LAUNCHER}.items():
        flows += [
            Flow(pod, NODE_CREDENTIALS, 80, f"{name} takes the node's own credentials"),
            Flow(pod, NODE_CREDENTIALS_6, 80, f"{name} takes them over IPv6"),
            Flow(pod, PERSON, 25, f"{name} sends mail"),
            Flow(pod, FOREIGN, 8080, f"{name} reaches another namespace"),
            Flow(pod, DNS, 9153, f"{name} reaches another port of the DNS pods"),
        ]
    return flows


def needed_with_store(storage: End, port: int) -> list[Flow]:
    """Everybody uses the store."""
    users = {**STEPS, "a launcher": LAUNCHER}
    return [Flow(pod, storage, port, f"{name} reads and writes results") for name, pod in users.items()]


def forbidden_with_storage(storage: Pod, port: int) -> list[Flow]:
    """A store in the namespace is ours alone, and goes nowhere itself."""
    return [
        Flow(STRANGER, storage, port, "another pod of the namespace reads the results"),
        Flow(FOREIGN, storage, port, "another namespace's pod reads the results"),
        Flow(PERSON, storage, port, "somebody outside reads the results"),
        Flow(storage, STORE_INSIDE, 8080, "the storage reaches another one"),
        Flow(STEP, storage, 9001, "a step reaches another port of the storage"),
        Flow(storage, API, 443, "the storage reaches the API server"),
        Flow(storage, PERSON, 443, "the storage calls somebody outside"),
        *(Flow(pod, API, 6443, f"{name} reaches the API server") for name, pod in STEPS.items()),
        *(Flow(pod, PERSON, 443, f"{name} sends data out") for name, pod in STEPS.items()),
    ]
