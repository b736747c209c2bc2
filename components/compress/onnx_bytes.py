"""One byte sequence for one network: whatever an ONNX file says about where and how it was made is taken out."""

from typing import Any

GRAPH_NAME = "conveyor"
INPUT, OUTPUT = "images", "logits"
IR_VERSION = 8
"""Readable by every ONNX Runtime since 1.13 (2022), and by the servers that bring their own."""


def canonical_onnx(model: Any) -> bytes:
    """The bytes of an `onnx.ModelProto` without producer, documentation, metadata and unused operator sets.

    Equal networks give equal bytes in every process and folder. The model is changed.
    """
    import onnx

    model.ir_version = IR_VERSION
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.model_version = 0
    del model.metadata_props[:]
    model.graph.name = GRAPH_NAME
    _strip(model.graph)
    used = {node.domain for node in model.graph.node}
    versions = sorted(
        {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}.items()
    )
    del model.opset_import[:]
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in versions
        if domain in used or not domain
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _strip(graph: Any) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    # Shapes of values in between are hints that depend on the tool that inferred them; every runtime infers its own.
    del graph.value_info[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
