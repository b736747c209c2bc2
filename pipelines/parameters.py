"""The handful of plain parameters that a Kubeflow form shows, with types, defaults and descriptions."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of the form. "" and 0 mean: not filled in, so the config or the data decides."""

    name: str
    default: str | int | None
    """None: must be filled in (text)."""
    description: str
    key: str | None = None
    """The setting that it is."""


PARAMETERS = (
    Parameter(
        "store",
        None,
        "Where results are kept: s3://bucket/prefix, or a folder that all pods mount.",
        "store.url",
    ),
    Parameter(
        "source",
        "",
        "The images: a folder, list, archive or s3:// prefix that the pods can reach.",
        "ingest.source",
    ),
    Parameter("run", "", "Name of the run; empty takes Kubeflow's."),
    Parameter(
        "model",
        "",
        "The network, such as lenet or resnet18; empty chooses by the images.",
        "train.model",
    ),
    Parameter("epochs", 0, "Passes over the training images; 0 chooses by the data.", "train.epochs"),
    Parameter(
        "image_size",
        0,
        "Side in pixels of the square that the network sees; 0 chooses by the data.",
        "preprocess.image_size",
    ),
    Parameter("workers", 0, "Training processes in the training pod; 0 keeps the config's.", "train.workers"),
    Parameter(
        "training_pods",
        0,
        "Pods that train together, as a Job that the train step launches and follows; "
        "0 keeps the config's (1: the step's own pod trains).",
        "kubernetes.training.pods",
    ),
    Parameter("config", "", "Any other settings, as YAML (conveyor config prints them all)."),
)
