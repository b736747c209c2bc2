"""The DALI backend: one pipeline that executes the plan, on the CPU or with a GPU's decoder."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.common.errors import InputError
from components.data.loaders.batch import View, Work, normalisation

if TYPE_CHECKING:
    import torch

PREFETCH = 2
"""Batches in the making at once."""


class DaliBackend:
    """`gpu` decodes, resizes and normalises there; evaluation always decodes on the CPU, to be the same everywhere."""

    def __init__(self, *, gpu: bool) -> None:
        self._gpu = gpu

    @contextmanager
    def augmented(
        self,
        view: View,
        work: Iterable[Work],
        *,
        batch_size: int,
        num_threads: int,
        device: "torch.device | None",
    ) -> "Iterator[Iterator[tuple[Work, torch.Tensor]]]":
        import torch

        if self._gpu and not torch.cuda.is_available():
            raise InputError(
                "the loader backend dali-gpu needs a GPU, and torch sees none",
                todo="use the backend dali, which does the same on the CPU",
            )
        device_id = ((device.index if device is not None else None) or 0) if self._gpu else None
        pending: deque[Work] = deque()
        inputs = _Source(work, pending, lambda item: _augmented_inputs(view, item))
        pipe = _pipeline(view, inputs, batch_size=batch_size, num_threads=num_threads, device_id=device_id)

        def batches() -> Iterator[tuple[Work, torch.Tensor]]:
            for output in _outputs(pipe, device_id):
                # DALI's own memory, which it does not use again while the tensor lives.
                yield pending.popleft(), torch.utils.dlpack.from_dlpack(output)

        yield batches()

    @contextmanager
    def windows(
        self, view: View, work: Iterable[Work], *, batch_size: int, num_threads: int
    ) -> Iterator[Iterator[tuple[Work, NDArray[np.uint8]]]]:
        pending: deque[Work] = deque()
        inputs = _Source(work, pending, _window_inputs)
        pipe = _window_pipeline(view, inputs, batch_size=batch_size, num_threads=num_threads)

        def batches() -> Iterator[tuple[Work, NDArray[np.uint8]]]:
            for output in _outputs(pipe, None):
                yield pending.popleft(), np.asarray(output)

        yield batches()


class _Source:
    """Feeds a pipeline, and keeps what was fed until its output comes."""

    def __init__(
        self, work: Iterable[Work], pending: deque[Work], inputs: Callable[[Work], tuple[Any, ...]]
    ) -> None:
        self._work, self._pending, self._inputs = iter(work), pending, inputs

    def __call__(self) -> tuple[Any, ...]:
        item = next(self._work)
        self._pending.append(item)
        return self._inputs(item)


def _samples(item: Work) -> Any:
    return item.samples if isinstance(item.samples, list) else np.ascontiguousarray(item.samples)


def _augmented_inputs(view: View, item: Work) -> tuple[Any, ...]:
    offset, scale = normalisation(view, item.plan)
    inputs: tuple[Any, ...] = (_samples(item), item.plan.flips.astype(np.int32), offset, scale)
    if view.windowed:
        inputs += (item.plan.crops[:, :2].copy(), item.plan.crops[:, 2:].copy())
    if view.colours and view.channels == 3:
        inputs += (item.plan.colours[:, 2].copy(),)
    return inputs


def _window_inputs(item: Work) -> tuple[Any, ...]:
    return _samples(item), item.plan.crops[:, :2].copy(), item.plan.crops[:, 2:].copy()


def _pipeline(
    view: View, source: _Source, *, batch_size: int, num_threads: int, device_id: int | None
) -> Any:
    """Crop (while decoding), resize, flip, colour, normalise."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    gpu = device_id is not None
    pipe = Pipeline(
        batch_size=batch_size, num_threads=num_threads, device_id=device_id, prefetch_queue_depth=PREFETCH
    )
    ndims = [1 if view.encoded else 3, 0, 1, 1]
    dtypes = [types.UINT8, types.INT32, types.FLOAT, types.FLOAT]
    if view.windowed:
        ndims += [1, 1]
        dtypes += [types.INT32, types.INT32]
    if view.colours and view.channels == 3:
        ndims += [0]
        dtypes += [types.FLOAT]
    layouts = ["" if view.encoded else "HWC", *[""] * (len(ndims) - 1)]
    with pipe:
        inputs = list(
            fn.external_source(
                source=source, num_outputs=len(ndims), batch=True, ndim=ndims, dtype=dtypes, layout=layouts
            )
        )
        images, flips, offset, scale = inputs[:4]
        window = inputs[4:6] if view.windowed else []
        if view.encoded:
            images = _decode(images, window, view.channels, "mixed" if gpu else "cpu")
        else:
            images = images.gpu() if gpu else images
            if window:
                images = fn.slice(images, start=window[0], shape=window[1], axes=[0, 1])
        if window:
            images = fn.resize(
                images, size=[view.image_size] * 2, interp_type=types.INTERP_LINEAR, antialias=True
            )
        if view.colours and view.channels == 3:
            images = fn.saturation(images, saturation=inputs[-1], dtype=types.FLOAT)
        images = fn.crop_mirror_normalize(
            images, mirror=flips, mean=offset, std=scale, dtype=types.FLOAT, output_layout="CHW"
        )
        pipe.set_outputs(images)
    pipe.build()
    return pipe


def _window_pipeline(view: View, source: _Source, *, batch_size: int, num_threads: int) -> Any:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    pipe = Pipeline(
        batch_size=batch_size, num_threads=num_threads, device_id=None, prefetch_queue_depth=PREFETCH
    )
    with pipe:
        images, start, shape = fn.external_source(
            source=source,
            num_outputs=3,
            batch=True,
            ndim=[1, 1, 1],
            dtype=[types.UINT8, types.INT32, types.INT32],
        )
        pipe.set_outputs(_decode(images, [start, shape], view.channels, "cpu"))
    pipe.build()
    return pipe


def _decode(encoded: Any, window: list[Any], channels: int, device: str) -> Any:
    from nvidia.dali import fn, types

    kwargs = {
        "device": device,
        "output_type": types.RGB if channels == 3 else types.GRAY,
        # Smooth chroma, as libjpeg does by default: nearest-neighbour chroma is what DALI saves time with.
        "jpeg_fancy_upsampling": True,
    }
    if not window:
        return fn.decoders.image(encoded, **kwargs)
    return fn.decoders.image_slice(encoded, start=window[0], shape=window[1], axes=[0, 1], **kwargs)


def _outputs(pipe: Any, device_id: int | None) -> Iterator[Any]:
    """The pipeline's batches as one tensor each, until its source ends."""
    stream = None
    if device_id is not None:
        import torch

        stream = torch.cuda.current_stream(device_id)
    try:
        pipe.schedule_run()
        while True:
            (output,) = pipe.share_outputs(cuda_stream=stream)
            tensor = output.as_tensor()
            pipe.release_outputs()
            pipe.schedule_run()
            yield tensor
    except StopIteration:
        return
