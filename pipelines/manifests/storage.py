"""MinIO inside the cluster, for the local overlay: one pod, one volume, a bucket, the example's images."""

from components.cluster.config import KubernetesConfig
from components.cluster.jobs import CONFIG, metadata, step_job
from components.cluster.names import labels
from components.cluster.network import STORAGE, STORAGE_PORT
from components.cluster.pods import Object, container_security, pod_security
from components.cluster.rbac import STORAGE as ACCOUNT
from pipelines.manifests.steps import CONFIG_MAP, PULLED_ONCE

NAME = "conveyor-storage"
IMAGE = "minio/minio:local"
SETUP = "conveyor-setup"
WAIT_S = 600
IMAGES = "s3://conveyor-images"
EXAMPLE = f"{IMAGES}/digits"


def storage_objects(settings: KubernetesConfig) -> list[Object]:
    """Service and StatefulSet. The credentials are those of the steps: it takes the same Secret."""
    marks = labels(STORAGE)
    port: Object = {"name": "s3", "port": STORAGE_PORT, "protocol": "TCP", "targetPort": "s3"}
    service: Object = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(NAME, marks),
        "spec": {"clusterIP": "None", "selector": marks, "ports": [port]},
    }
    claim: Object = {
        "metadata": {"name": "data", "labels": marks},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}},
    }
    stateful_set: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(NAME, marks, annotations=PULLED_ONCE),
        "spec": {
            "serviceName": NAME,
            "replicas": 1,
            "selector": {"matchLabels": marks},
            "template": {"metadata": {"labels": marks}, "spec": _pod(settings)},
            "volumeClaimTemplates": [claim],
        },
    }
    return [service, stateful_set]


def _pod(settings: KubernetesConfig) -> Object:
    keys = {"MINIO_ROOT_USER": "access-key", "MINIO_ROOT_PASSWORD": "secret-key"}
    env: list[Object] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": settings.secret, "key": key}}}
        for name, key in keys.items()
    ]
    container: Object = {
        "name": "minio",
        "image": IMAGE,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["server", "/data", "--address", f":{STORAGE_PORT}"],
        "env": [*env, {"name": "MINIO_BROWSER", "value": "off"}],
        "ports": [{"name": "s3", "containerPort": STORAGE_PORT}],
        "readinessProbe": {"httpGet": {"path": "/minio/health/ready", "port": "s3"}, "periodSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": "/minio/health/live", "port": "s3"},
            "periodSeconds": 20,
            "failureThreshold": 6,
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "10Mi"},
            "limits": {"memory": "2Gi", "ephemeral-storage": "100Mi"},
        },
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
        ],
    }
    return {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {**pod_security(settings.security), "fsGroupChangePolicy": "OnRootMismatch"},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "100Mi"}}],
    }


def setup_job(settings: KubernetesConfig) -> Object:
    """The example's images first, then the store's bucket, for which the steps wait."""
    job = step_job(
        SETUP,
        "setup",
        "",
        settings,
        config_map=CONFIG_MAP,
        command_args=["store", "init", "-f", CONFIG, "--wait", str(WAIT_S)],
        annotations=PULLED_ONCE,
    )
    template = job["spec"]["template"]
    for marks in (job["metadata"]["labels"], template["metadata"]["labels"]):
        marks.pop("conveyor/run")
        marks.pop("conveyor/step")
    container = template["spec"]["containers"][0]
    if "setup" not in settings.resources:
        container["resources"] = {
            "requests": {"cpu": "50m", "memory": "256Mi", "ephemeral-storage": "10Mi"},
            "limits": {"memory": "1Gi", "ephemeral-storage": "100Mi"},
        }
    before = {
        "make-images-bucket": ["store", "init", "-f", CONFIG, "--store", IMAGES, "--wait", str(WAIT_S)],
        "upload-example": ["example", "digits", EXAMPLE, "-f", CONFIG],
    }
    template["spec"]["initContainers"] = [
        {**container, "name": name, "args": args} for name, args in before.items()
    ]
    return job
