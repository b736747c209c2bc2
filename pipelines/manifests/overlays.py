"""The overlays: what a person starts from and then owns (kustomization and settings are never overwritten)."""

from dataclasses import dataclass

DEFAULT_IMAGE = "conveyor:latest"
"""In the base; the overlays say which of our images it is."""
HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
SETTINGS = """\
configMapGenerator: # the settings: a changed file is a new ConfigMap
  - name: conveyor-config
    files: [config.yaml]
    options:
      labels: {app.kubernetes.io/name: conveyor, app.kubernetes.io/component: config, app.kubernetes.io/part-of: conveyor}
"""
NAMES = "transformers: [names.yaml] # `conveyor manifests` writes it\n"
S3_CONFIG = """\
# Every setting: conveyor config. Credentials never stand here: they come from the Secret conveyor-store.
ingest:
  source: s3://my-images/photos # <class>/<image>
  dataset: photos
store:
  url: s3://my-results/conveyor
  region: us-east-1
  # endpoint: https://minio.example:9000 # your S3 server, where it is not AWS; and its port in the NetworkPolicy
"""
IDENTITY_CONFIG = S3_CONFIG.replace("from the Secret conveyor-store", "from the pod's identity")
LOCAL_CONFIG = """\
# The example, in the cluster's own storage. Your images: another source (docs/kubernetes.md says how they get there).
ingest:
  source: s3://conveyor-images/digits
  dataset: digits
store:
  url: s3://conveyor/store
  endpoint: http://conveyor-storage:9000
"""
PORT = """\
patches:
  - target: {kind: NetworkPolicy, name: conveyor-store}
    patch: | # the port of your S3 server
      - {op: replace, path: /spec/egress/0/ports/0/port, value: 443}
"""
ACCOUNT = """\
  - target: {kind: ServiceAccount, name: conveyor-(step|launcher)}
    patch: | # the identity that may read the images and write the results
      - op: add
        path: /metadata/annotations
        value: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/conveyor"}
"""


SAME_IMAGE = """\
replacements: # the steps that it launches run from its own image
  - source: {kind: CronJob, name: conveyor-retrain, fieldPath: "spec.jobTemplate.spec.template.spec.containers.0.image"}
    targets:
      - select: {kind: CronJob, name: conveyor-retrain}
        fieldPaths:
          - "spec.jobTemplate.spec.template.spec.containers.0.env.[name=CONVEYOR_IMAGE].value"
"""
SCHEDULE = """\
  - target: {kind: CronJob, name: conveyor-retrain}
    patch: |
      - {op: replace, path: /spec/schedule, value: "0 3 * * *"}
      - {op: replace, path: /spec/timeZone, value: Etc/UTC}
"""
RETRAIN_SETTINGS = """\
kubernetes: # the pods of the steps (docs/kubernetes.md); GPUs are settings here: resources: {train: {gpus: 1}}
  training:
    pods: 2
# promote:
#   margin: 0 # a new model must be shown to be better; unset, it may lose a little (docs/retraining.md)
#   min_accuracy: 0.9 # whatever the champion reaches
"""
RETRAIN_CONFIG = S3_CONFIG + RETRAIN_SETTINGS
RETRAIN_IDENTITY_CONFIG = IDENTITY_CONFIG + RETRAIN_SETTINGS.replace(
    "  training:", '  secret: "" # nor have the pods that it makes one\n  training:'
)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One way to run the pipeline: its kustomization, its settings."""

    name: str
    about: str
    resources: tuple[str, ...]
    config: str
    tag: str = "cpu"
    components: tuple[str, ...] = ()
    patches: str = ""
    more: str = ""
    named: bool = True
    """Its Jobs' names need a digest (a CronJob's need none)."""

    def kustomization(self, image: str) -> str:
        """`image` is the base's; where that is the default one, the overlay says which of ours it is."""
        parts = [f"# {self.about}\n", HEAD, "resources:\n", *(f"  - {each}\n" for each in self.resources)]
        if self.components:
            parts += ["components:\n", *(f"  - {each}\n" for each in self.components)]
        parts.append(SETTINGS)
        if image == DEFAULT_IMAGE:
            parts.append(
                f"images:\n  - name: conveyor # newName: where your registry has it\n    newTag: {self.tag}\n"
            )
        parts += [self.patches, self.more]
        if self.named:
            parts.append(NAMES)
        return "".join(parts)


OVERLAYS = (
    Overlay(
        "local",
        "A cluster of your own (kind, minikube): MinIO in the cluster, with the example's images.",
        ("../../common", "../../base", "../../storage"),
        LOCAL_CONFIG,
    ),
    Overlay(
        "s3",
        "Images and results on an S3 server; its credentials in the Secret conveyor-store.",
        ("../../common", "../../base", "../../network-s3"),
        S3_CONFIG,
        patches=PORT,
    ),
    Overlay(
        "s3-pod-identity",
        "Images and results on S3, reached with the pods' own identity: no Secret.",
        ("../../common", "../../base", "../../network-s3"),
        IDENTITY_CONFIG,
        components=("../../pod-identity",),
        patches=PORT + ACCOUNT,
    ),
    Overlay(
        "gpu",
        "As s3, with a GPU for each training pod: as many must be free at once (../../gpu-evaluate-compress: two more).",
        ("../../common", "../../base", "../../network-s3"),
        S3_CONFIG,
        tag="cuda",
        components=("../../gpu",),
        patches=PORT,
    ),
    Overlay(
        "mpijob",
        "As s3, with training as an MPIJob: the one overlay that needs an operator (Kubeflow's MPI operator).",
        ("../../common", "../../mpijob", "../../network-s3"),
        S3_CONFIG,
        tag="mpi",
        patches=PORT,
    ),
    Overlay(
        "retrain",
        "Every night: ingest, and where something is new train, compare with the champion, promote what passes the gates.",
        ("../../common", "../../retrain", "../../network-s3"),
        RETRAIN_CONFIG,
        patches=PORT + SCHEDULE,
        more=SAME_IMAGE,
        named=False,
    ),
    Overlay(
        "retrain-pod-identity",
        "As retrain, reaching S3 with the pods' own identity: no Secret.",
        ("../../common", "../../retrain", "../../network-s3"),
        RETRAIN_IDENTITY_CONFIG,
        components=("../../pod-identity",),
        patches=PORT + SCHEDULE + ACCOUNT,
        more=SAME_IMAGE,
        named=False,
    ),
)
