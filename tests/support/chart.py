"""The chart, rendered by the Helms of this machine."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from support import s3_servers

Object = dict[str, Any]
CHART = Path(__file__).resolve().parents[2] / "charts" / "conveyor"
KUBERNETES = "1.35.0"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick

# What the checkers and the tests of what is rendered look at: each setting that makes or changes an object, once.
EVERYTHING: Object = {
    "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    "kubeflow": {"enabled": True, "createServiceAccount": True},
    "example": {"enabled": True},
    "webhook": {"enabled": True, "existingSecret": "news"},
    "kueue": {"queue": "team-a"},
    "image": {"pullSecrets": ["registry"]},
    "podLabels": {"team": "vision", "app.kubernetes.io/part-of": "mine"},
    "podAnnotations": {"note": "here"},
    "extraEnv": {"HTTPS_PROXY": "http://proxy:3128", "FLAG": "on"},
    "nodeSelector": {"pool": "cpu"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "low",
    "rbac": {"users": [{"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}]},
    "networkPolicy": {
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "198.51.100.30/32"}}], "ports": [{"port": 3128}]}]
    },
    "config": {
        "ingest": {"source": "/images"},
        "store": {"ca_bundle": "/etc/ca/ca.crt"},
        "kubernetes": {
            "mounts": [
                {"name": "ca", "path": "/etc/ca", "config_map": "authority"},
                {"name": "images", "path": "/images", "claim": "photos", "read_only": False},
                {"name": "more", "path": "/more", "secret": "more"},
            ]
        },
    },
}
EXTERNAL: Object = {
    "storage": {"kind": "external", "existingSecret": "mine"},
    "config": {"store": {"url": "s3://results/x"}},
}
IDENTITY: Object = {
    "storage": {"kind": "external", "podIdentity": True, "bucket": {"create": True}},
    "serviceAccounts": {
        "step": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/conveyor"}}
    },
    "config": {"store": {"url": "s3://results/x", "region": "eu-central-1"}},
    "networkPolicy": {
        "store": {"cidrs": [], "to": [{"namespaceSelector": {}}], "ports": [8080]},
        "apiServer": {
            "cidrs": ["192.0.2.10/32"],
            "to": [{"podSelector": {"matchLabels": {"component": "api"}}}],
        },
    },
}
CASES: dict[str, Object] = {
    "defaults": {},
    "everything": EVERYTHING,
    "external": EXTERNAL,
    "identity": IDENTITY,
}


class RefusedError(Exception):
    """Helm's own words."""


def tool(name: str) -> str | None:
    """A program: on the PATH, beside MinIO and versitygw, or in the folder `extra` of tools/checkers.py."""
    folder = s3_servers.binaries()
    for place in (folder, folder.parent / "extra" if folder else None):
        if place is not None and (place / name).is_file():
            return str(place / name)
    return shutil.which(name)


@functools.cache
def helms() -> dict[str, str]:
    """Helm's major version → the program, for each that is here."""
    found = {}
    for name in ("helm", "helm3", "helm4"):
        program = tool(name)
        if program is not None:
            said = subprocess.run([program, "version", "--short"], capture_output=True, text=True, check=True)
            found[said.stdout.strip().lstrip("v")[:1]] = program
    return found


def render(
    values: Object | None = None,
    *,
    release: str = "conveyor",
    namespace: str = "ml",
    helm: str | None = None,
) -> list[Object]:
    """The objects of an installation with these values. Raises `RefusedError`."""
    program = helm or next(iter(helms().values()))
    text = template(program, release, namespace, json.dumps(values or {}))
    return [each for each in yaml.load_all(text, Loader=Loader) if each]


@functools.cache
def template(program: str, release: str, namespace: str, values: str) -> str:
    """What `helm template` prints."""
    command = [program, "template", release, str(CHART), "--namespace", namespace, "--values", "-"]
    command += ["--kube-version", KUBERNETES]
    done = subprocess.run(
        command,
        input=values,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The object of that kind (and name)."""
    (found,) = [each for each in objects if each["kind"] == kind and name in {None, each["metadata"]["name"]}]
    return found


def pod_templates(objects: list[Object]) -> dict[str, Object]:
    """`kind/name` → metadata and spec of the pods that it makes."""
    found = {}
    for each in objects:
        spec = each.get("spec") or {}
        place = {
            "Pod": each,
            "Job": spec.get("template"),
            "Deployment": spec.get("template"),
            "StatefulSet": spec.get("template"),
            "CronJob": spec.get("jobTemplate", {}).get("spec", {}).get("template"),
        }.get(each["kind"])
        if place is not None:
            found[f"{each['kind']}/{each['metadata']['name']}"] = place
    return found
