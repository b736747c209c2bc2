"""Questions to what is around: this machine, the store, Docker, a cluster, Kubeflow."""

import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from components.common.errors import ConveyorError
from pipelines.doctor.check import Check

LIMIT_S = 10.0
KFP_ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""The variable that kfp's own client reads."""

ASK_CLUSTER = """
from kubernetes import client, config
config.load_config()
host = client.Configuration.get_default_copy().host
print(host, client.VersionApi().get_code(_request_timeout=5).git_version)
"""


def machine() -> Check:
    """Cores that this process may use, memory, free disk here."""
    import psutil

    cores = len(os.sched_getaffinity(0))
    memory_gib = psutil.virtual_memory().total / 2**30
    disk_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    found = f"Python {platform.python_version()}, {platform.machine()}, {cores} cores, "
    return Check("machine", "ok", f"{found}{memory_gib:.0f} GiB memory, {disk_gib:.0f} GiB free here")


def store(url: str) -> Check:
    """Needed by everything: reachable, writable, honours both conditional headers."""
    from components.common.store import StoreSettings, open_store

    try:
        # Few attempts: a person waits.
        open_store(url, StoreSettings(max_attempts=2, read_timeout_s=5.0)).check()
    except ConveyorError as error:
        details = (error.what, error.where, error.found)
        return Check("store", "failed", "; ".join(text for text in details if text), error.todo or "")
    return Check("store", "ok", f"{url}: reachable, writable, conditional puts hold")


def docker() -> Check:
    """Done without: images and kfp's DockerRunner need it."""
    cure = (
        "install Docker Engine and start it, or set DOCKER_HOST; only images and kfp's DockerRunner need it"
    )
    program = shutil.which("docker")
    if program is None:
        return Check("Docker", "missing", "no docker command on the PATH", cure)
    try:
        done = subprocess.run(
            [program, "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("Docker", "failed", f"no answer within {LIMIT_S:.0f} s", cure)
    if done.returncode or not done.stdout.strip():
        return Check("Docker", "missing", _last_line(done.stderr), cure)
    return Check("Docker", "ok", f"engine {done.stdout.strip()}")


def cluster() -> Check:
    """Done without: only Jobs and Kubeflow need a Kubernetes cluster."""
    cure = "set KUBECONFIG, or make a local cluster (kind, k3d); only cluster runs need it"
    if not _has_cluster_settings():
        return Check("cluster", "missing", "no KUBECONFIG, no ~/.kube/config, not in a pod", cure)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ASK_CLUSTER],
            capture_output=True,
            text=True,
            timeout=2 * LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Check("cluster", "failed", f"no answer within {2 * LIMIT_S:.0f} s", cure)
    if done.returncode:
        last = _last_line(done.stderr)
        if last.startswith("ModuleNotFoundError"):
            return Check("cluster", "missing", last, "make setup, or pip install 'conveyor[kubeflow]'")
        return Check(
            "cluster", "failed", last, "is the server in KUBECONFIG up, and are its credentials valid?"
        )
    host, version = done.stdout.split()
    return Check("cluster", "ok", f"Kubernetes {version} at {host}")


def kubeflow() -> Check:
    """Done without: `conveyor run` needs no server."""
    endpoint = os.environ.get(KFP_ENDPOINT, "")
    if not endpoint:
        cure = f"set {KFP_ENDPOINT} to the URL of a Kubeflow Pipelines API; only submit and schedule need it"
        return Check("Kubeflow", "missing", f"{KFP_ENDPOINT} is not set", cure)
    if not endpoint.startswith(("http://", "https://")):
        return Check(
            "Kubeflow", "failed", f"{KFP_ENDPOINT}={endpoint}", "expected an http:// or https:// URL"
        )
    url = f"{endpoint.rstrip('/')}/apis/v2beta1/healthz"
    try:
        with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:  # noqa: S310 - its scheme was checked above
            json.load(answer)
    except (OSError, ValueError, urllib.error.HTTPError) as error:
        cure = f"is the API server up, and is {KFP_ENDPOINT} its address (port-forward ml-pipeline-ui)?"
        return Check("Kubeflow", "failed", f"{url}: {error}", cure)
    return Check("Kubeflow", "ok", f"{endpoint} answers")


def _has_cluster_settings() -> bool:
    return (
        bool(os.environ.get("KUBECONFIG") or os.environ.get("KUBERNETES_SERVICE_HOST"))
        or (Path.home() / ".kube" / "config").exists()
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:300]
