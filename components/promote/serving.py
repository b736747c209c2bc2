"""The files beside the model that Triton and KServe read."""

import json

from components.models.spec import ModelSpec

MAX_BATCH = 64
INPUT, OUTPUT = "images", "logits"


def triton_config(name: str, number: int, spec: ModelSpec) -> str:
    """`config.pbtxt`: shapes without the batch, labels by name, and only this version served.

    The input is what the network sees: cut to the square and normalised as `version.json` says.
    """
    side = spec.image_size
    return f"""name: {json.dumps(name)}
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [
  {{
    name: "{INPUT}"
    data_type: TYPE_FP32
    dims: [ {spec.channels}, {side}, {side} ]
  }}
]
output [
  {{
    name: "{OUTPUT}"
    data_type: TYPE_FP32
    dims: [ {len(spec.classes)} ]
    label_filename: "labels.txt"
  }}
]
version_policy: {{ specific: {{ versions: [ {number} ] }} }}
dynamic_batching {{ }}
"""


def labels_text(spec: ModelSpec) -> str:
    """One class a line, in the order of the outputs."""
    return "".join(" ".join(name.split()) + "\n" for name in spec.classes)
