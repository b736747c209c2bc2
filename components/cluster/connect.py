"""Where the cluster is: a kubeconfig, or the account of the pod that this runs in."""

import os
from pathlib import Path
from typing import Any

from components.cluster.api import Cluster
from components.common.errors import InputError, StepError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_cluster() -> bool:
    """Whether this is a pod with a token."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (ACCOUNT / "token").is_file()


def connect(*, context: str | None = None, namespace: str | None = None) -> Cluster:
    """The cluster of `context`, of the current context, or, without a kubeconfig, the one that this pod runs in.

    Raises `InputError` that says what is missing. Asks nothing of the server yet.
    """
    try:
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import ConfigException
    except ImportError:
        raise StepError(
            "the Python package kubernetes is not installed",
            todo="pip install 'conveyor[kubernetes]' (make setup installs everything)",
        ) from None
    configuration = Configuration()
    try:
        if context is None and not _kubeconfig_files() and in_cluster():
            from kubernetes.config import load_incluster_config

            load_incluster_config(client_configuration=configuration)
            own, user = (ACCOUNT / "namespace").read_text().strip(), "the pod's service account"
        else:
            own, user = _load_kubeconfig(configuration, context)
    except ConfigException as error:
        raise InputError(
            "the kubeconfig cannot be used",
            where=os.environ.get("KUBECONFIG") or "~/.kube/config",
            found=str(error),
            todo="kubectl config get-contexts   lists what is there; choose one with --context",
        ) from None
    return Cluster(ApiClient(configuration), namespace or own, user=user)


def _kubeconfig_files() -> list[Path]:
    named = os.environ.get("KUBECONFIG")
    paths = [Path(part) for part in named.split(os.pathsep) if part] if named else []
    if not paths:
        paths = [Path("~/.kube/config").expanduser()]
    return [path for path in paths if path.is_file()]


def _load_kubeconfig(configuration: Any, context: str | None) -> tuple[str, str]:
    """Namespace and user of the context."""
    from kubernetes.config import list_kube_config_contexts, load_kube_config

    files = _kubeconfig_files()
    if not files:
        named = os.environ.get("KUBECONFIG")
        raise InputError(
            "there is no kubeconfig, so no cluster to go to",
            where=f"KUBECONFIG={named}" if named else "~/.kube/config",
            todo="set KUBECONFIG, or write the file as your cluster's provider says (kind export kubeconfig, "
            "aws eks update-kubeconfig, gcloud container clusters get-credentials, …)",
        )
    joined = os.pathsep.join(str(path) for path in files)
    contexts, active = list_kube_config_contexts(config_file=joined)
    if context is not None:
        chosen = next((each for each in contexts if each["name"] == context), None)
        if chosen is None:
            raise InputError(
                f"the kubeconfig has no context called {context}",
                where=joined,
                expected=f"one of {', '.join(each['name'] for each in contexts)}",
            )
    else:
        chosen = active
    load_kube_config(config_file=joined, context=context, client_configuration=configuration)
    inner = (chosen or {}).get("context", {})
    return str(inner.get("namespace") or "default"), str(inner.get("user") or "")
