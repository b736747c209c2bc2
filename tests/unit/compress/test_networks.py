"""Pruning, export and quantization of real (untrained) networks."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from components.compress.export import compare, export, torch_logits
from components.compress.prune import num_channels, num_parameters, output_layer, prune, round_to
from components.compress.quantize import quantize
from components.models.architectures import build_model
from components.models.onnx_predictor import OnnxPredictor

SIDE = 16


def network(name: str = "lenet", side: int = SIDE) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build_model(name, num_classes=5, channels=1, image_size=side)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # as after training: nothing is 0 or 1
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.uniform_(module.get_buffer("running_mean"), -0.5, 0.5)
        return model.eval()


def images(num: int = 24, side: int = SIDE) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((num, 1, side, side)).astype(np.float32)


def test_pruning_removes_channels_everywhere_but_the_answers() -> None:
    model, x = network(), torch.from_numpy(images(2))
    pruned = prune(model, 0.5, x)
    assert num_channels(pruned) == num_channels(model) // 2
    assert num_parameters(pruned) < 0.3 * num_parameters(model)
    assert pruned(x).shape == (2, 5)
    assert num_parameters(model) == num_parameters(network()), "the original must stay as it was"


def test_pruning_twice_gives_the_same_network() -> None:
    x = torch.from_numpy(images(2))
    first, second = prune(network(), 0.5, x).state_dict(), prune(network(), 0.5, x).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_pruning_takes_the_weakest_channels() -> None:
    model, x = network(), torch.from_numpy(images(2))
    first = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    kept = list(range(0, first.out_channels, 2))
    with torch.no_grad():
        for channel in range(1, first.out_channels, 2):
            first.weight[channel] *= 1e-3
            norm.weight[channel] = norm.bias[channel] = 0.0
    pruned = prune(model, 0.5, x)
    conv = next(m for m in pruned.modules() if isinstance(m, torch.nn.Conv2d))
    assert torch.equal(conv.weight, first.weight[kept])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_networks_with_branches_prune_and_export(name: str) -> None:
    model, x = network(name, 32), images(4, 32)
    pruned = prune(model, 0.5, torch.from_numpy(x))
    assert num_parameters(pruned) < 0.35 * num_parameters(model)
    data = export(pruned, channels=1, image_size=32)
    assert compare(torch_logits(pruned, x), OnnxPredictor(data)(x)).passed


@pytest.mark.parametrize(("widths", "expected"), [((64, 32), 8), ((16,), 4), ((6, 16), 1), ((), 1)])
def test_narrow_networks_are_pruned_in_finer_steps(widths: tuple[int, ...], expected: int) -> None:
    layers = [torch.nn.Conv2d(1, width, 3) for width in widths]
    assert round_to(torch.nn.Sequential(*layers)) == expected


def test_the_output_layer_is_the_one_that_runs_last() -> None:
    class Backwards(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body = torch.nn.Linear(3, 2), torch.nn.Conv2d(1, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.body(x).mean(dim=(2, 3)))
            return logits

    model = Backwards()
    assert output_layer(model, torch.zeros(1, 1, 4, 4)) is model.head


@pytest.mark.parametrize("num", [1, 7])
def test_the_export_says_what_torch_says_for_any_batch(num: int) -> None:
    model, x = network(), images(num)
    agreement = compare(torch_logits(model, x), OnnxPredictor(export(model, channels=1, image_size=SIDE))(x))
    assert agreement.passed
    assert agreement.num_same_label == num
    assert agreement.max_difference < 1e-4


def test_a_network_that_says_something_else_is_noticed() -> None:
    model, x = network(), images()
    expected = torch_logits(model, x)
    wrong = expected.copy()
    wrong[3, 2] += 0.1
    assert not compare(expected, wrong).passed
    assert not compare(expected, np.full_like(expected, np.nan)).passed
    assert compare(expected, expected).passed


def test_an_export_names_no_place_time_or_tool() -> None:
    model = onnx.load_model_from_string(export(network(), channels=1, image_size=SIDE))
    assert (model.producer_name, model.producer_version, model.doc_string) == ("", "", "")
    assert not model.metadata_props
    assert {part.doc_string for part in (*model.graph.node, *model.graph.initializer)} == {""}
    assert [imported.domain for imported in model.opset_import] == [""]


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import hashlib, importlib.util, torch
spec = importlib.util.spec_from_file_location("case", sys.argv[3])
case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
torch.set_num_threads(int(sys.argv[4]))
model = case.export(case.prune(case.network(), 0.5, torch.from_numpy(case.images(2))), channels=1, image_size=16)
small = case.quantize(model, case.images(), weight_range="reduced", scratch=Path.cwd())
print(hashlib.sha256(model).hexdigest(), hashlib.sha256(small).hexdigest())
"""


def test_equal_networks_give_equal_bytes_in_every_process_and_folder(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    found = set()
    for number, threads in (("one", "1"), ("another-folder", "2")):
        folder = tmp_path / number
        folder.mkdir()
        arguments = [str(root), str(root / "tests"), __file__, threads]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONHASHSEED": threads, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_int8_is_smaller_deterministic_and_close(tmp_path: Path) -> None:
    model, x = network(), images(64)
    fp32 = export(model, channels=1, image_size=SIDE)
    int8 = quantize(fp32, x, weight_range="reduced", scratch=tmp_path)
    assert len(int8) < 0.4 * len(fp32)
    assert (
        hashlib.sha256(int8).digest()
        == hashlib.sha256(quantize(fp32, x, weight_range="reduced", scratch=tmp_path)).digest()
    )
    assert list(tmp_path.iterdir()) == []
    agreement = compare(torch_logits(model, x), OnnxPredictor(int8)(x))
    assert agreement.max_difference < 0.1 * agreement.scale
    assert agreement.num_same_label >= 58


def test_reduced_weights_keep_within_seven_bits(tmp_path: Path) -> None:
    fp32 = export(network(), channels=1, image_size=SIDE)
    largest = {}
    for weight_range in ("full", "reduced"):
        data = quantize(fp32, images(), weight_range=weight_range, scratch=tmp_path)
        weights = [
            onnx.numpy_helper.to_array(tensor).astype(int)
            for tensor in onnx.load_model_from_string(data).graph.initializer
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
        ]
        assert weights
        largest[weight_range] = max(int(np.abs(weight).max()) for weight in weights)
    assert largest["reduced"] <= 64 < largest["full"] <= 128


def test_weights_are_quantized_per_channel(tmp_path: Path) -> None:
    fp32 = export(network(), channels=1, image_size=SIDE)
    model = onnx.load_model_from_string(quantize(fp32, images(), weight_range="full", scratch=tmp_path))
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weight_scales = [
        scales[node.input[1]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and scales.get(node.input[1], np.zeros(())).ndim == 1
    ]
    assert weight_scales
    assert max(len(scale) for scale in weight_scales) == 64
