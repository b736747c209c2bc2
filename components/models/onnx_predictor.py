"""An ONNX model as a function from images to logits, the same on every machine of one kind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from components.common.errors import InputError, StepError

MAX_MODEL_BYTES = 1 << 30
"""Larger files are refused: an ONNX file beyond 2 GiB cannot be one at all, and this house ships small ones."""

ERRORS_ONLY = 3

Provider: TypeAlias = Literal["cpu", "cuda"]


class OnnxPredictor:
    """Runs an ONNX classifier: one input [n, C, S, S] float32, one output [n, K] float32.

    Threads are given, never guessed; nothing is read but the model itself (external data is refused). Raises
    `StepError` for a file that is no such model, `InputError` for a provider that this machine lacks.
    """

    def __init__(self, model: bytes | Path, *, threads: int = 1, provider: Provider = "cpu") -> None:
        import onnxruntime as ort

        data = _read(model)
        refuse_external_data(data)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = ERRORS_ONLY
        ort.disable_telemetry_events()
        self.provider = _provider_name(provider, ort.get_available_providers())
        try:
            self._session = ort.InferenceSession(data, options, providers=[self.provider])
        except Exception as error:
            raise StepError("onnxruntime cannot load this model", found=_first_line(error)) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise StepError(
                "this ONNX file is not an image classifier",
                expected="one float32 input and one output",
                found=f"{len(inputs)} inputs ({', '.join(i.type for i in inputs)}), {len(outputs)} outputs",
            )
        self.size_bytes = len(data)
        self._input, self._output = inputs[0].name, outputs[0].name

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images [n, C, S, S] → logits [n, K]. Raises `StepError` for another shape than the model's."""
        try:
            (logits,) = self._session.run([self._output], {self._input: images})
        except Exception as error:
            raise StepError(
                "the model refused its input",
                expected=f"float32 {self._session.get_inputs()[0].shape}",
                found=f"{images.dtype} {list(images.shape)}: {_first_line(error)}",
            ) from error
        return np.asarray(logits, dtype=np.float32)


def refuse_external_data(data: bytes) -> None:
    """Raise `StepError` where a model would have other files read: it must consist of its own bytes only."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise StepError("this is not an ONNX model", found=_first_line(error)) from error
    for graph in [model.graph, *_function_like(model)]:
        for tensor in _tensors(graph):
            if uses_external_data(tensor):
                raise StepError(
                    "this ONNX model keeps weights outside itself",
                    found=f"the tensor {tensor.name!r} names another file",
                    todo="save the model with its weights inside (no external data)",
                )


def _function_like(model: Any) -> Iterator[Any]:
    yield from model.functions
    for info in model.training_info:
        yield info.initialization
        yield info.algorithm


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph or function, those in attributes and subgraphs too."""
    if hasattr(graph, "initializer"):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _read(model: bytes | Path) -> bytes:
    size = model.stat().st_size if isinstance(model, Path) else len(model)
    if size > MAX_MODEL_BYTES:
        raise StepError(
            "this ONNX model is too large", expected=f"at most {MAX_MODEL_BYTES} bytes", found=f"{size} bytes"
        )
    return model.read_bytes() if isinstance(model, Path) else model


def _provider_name(provider: Provider, available: list[str]) -> str:
    name = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[provider]
    if name not in available:
        raise InputError(
            f"onnxruntime has no {provider} provider on this machine",
            expected=name,
            found=", ".join(available),
            todo="install onnxruntime-gpu, or use the cpu",
        )
    return name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
