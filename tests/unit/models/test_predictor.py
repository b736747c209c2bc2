"""The predictor on an ONNX model that is small enough to know its answers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from pydantic import ValidationError

from components.common.canonical import digest_bytes
from components.common.errors import InputError, StepError, StoreError
from components.common.refs import Candidate, CompressedRef
from components.models import onnx_predictor
from components.models.onnx_predictor import OnnxPredictor
from components.models.predictor import NO_LABEL, Predictor
from components.models.spec import ModelSpec
from support.tiny_onnx import brightness_model

MODEL = brightness_model()


def spec(**changes: object) -> ModelSpec:
    values: dict[str, object] = {
        "name": "fp32",
        "model": digest_bytes(MODEL),
        "size_bytes": len(MODEL),
        "classes": ("dark", "medium", "bright"),
        "image_size": 8,
        "stored_size": 8,
        "channels": 1,
        "mean": (0.0,),
        "std": (1.0,),
    }
    return ModelSpec(**(values | changes))  # type: ignore[arg-type]


def png(brightness: int, size: tuple[int, int] = (12, 10)) -> bytes:
    sink = io.BytesIO()
    Image.new("L", size, brightness).save(sink, "PNG")
    return sink.getvalue()


def test_labels_and_probabilities() -> None:
    found = Predictor(spec(), MODEL).predict([png(0), png(128), png(255)])
    assert found.labels.tolist() == [0, 1, 2]
    assert found.probabilities.shape == (3, 3)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum(axis=1) == pytest.approx([1, 1, 1])
    # logits of brightness 0 are 0, -5, -20
    expected = np.exp([0, -5, -20]) / np.exp([0, -5, -20]).sum()
    assert found.probabilities[0] == pytest.approx(expected, abs=1e-6)


def test_a_bad_image_does_not_disturb_the_others() -> None:
    images = [png(0), b"no image", png(255)[:-20], png(128), b""]
    found = Predictor(spec(), MODEL).predict(images)
    assert found.labels.tolist() == [0, NO_LABEL, NO_LABEL, 1, NO_LABEL]
    assert {row: error.reason for row, error in found.errors.items()} == {
        1: "not_an_image",
        2: "truncated",
        4: "empty",
    }
    assert not found.probabilities[[1, 2, 4]].any()
    alone = Predictor(spec(), MODEL).predict([png(0), png(128)])
    assert found.probabilities[[0, 3]].tolist() == alone.probabilities.tolist()


def test_only_bad_images_and_none_at_all() -> None:
    predictor = Predictor(spec(), MODEL)
    assert predictor.predict([b"x"]).labels.tolist() == [NO_LABEL]
    assert predictor.predict([]).probabilities.shape == (0, 3)


def test_an_image_that_only_the_decoder_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.data import single

    decode = single.decode_and_resize

    def moody(encoded: list[bytes], **options: Any) -> list[np.ndarray]:
        if png(77) in encoded:
            raise RuntimeError("I do not like it")
        return decode(encoded, **options)

    monkeypatch.setattr(single, "decode_and_resize", moody)
    found = Predictor(spec(), MODEL).predict([png(0), png(77), png(255)])
    assert found.labels.tolist() == [0, NO_LABEL, 2]
    assert found.errors[1].detail == "I do not like it"


def test_a_pixel_limit() -> None:
    found = Predictor(spec(), MODEL, max_pixels=100).predict([png(0), png(0, size=(10, 10))])
    assert found.errors[0].reason == "too_large"
    assert found.labels.tolist() == [NO_LABEL, 0]


def test_temperature_changes_probabilities_and_no_label() -> None:
    plain = Predictor(spec(), MODEL).predict([png(100)])
    warm = Predictor(spec(temperature=4.0), MODEL).predict([png(100)])
    assert warm.labels.tolist() == plain.labels.tolist()
    assert warm.probabilities.max() < plain.probabilities.max()


def test_model_and_classes_must_belong_together() -> None:
    with pytest.raises(StepError, match="do not belong together"):
        Predictor(spec(classes=("a", "b")), MODEL)


def test_the_same_bits_again_and_with_another_batch_size() -> None:
    images = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
    model = OnnxPredictor(MODEL, threads=2)
    whole = model(images)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(model(images), whole)
    np.testing.assert_array_equal(OnnxPredictor(MODEL, threads=1)(images), whole)
    one_by_one = np.concatenate([model(images[i : i + 1]) for i in range(64)])
    np.testing.assert_allclose(one_by_one, whole, atol=1e-5)


def test_a_model_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    assert OnnxPredictor(path).size_bytes == len(MODEL)


def test_external_data_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    secret = tmp_path / "weights.bin"
    secret.write_bytes(bytes(64))
    model = onnx.load_model_from_string(MODEL)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=str(secret))
    with pytest.raises(StepError, match="outside itself"):
        OnnxPredictor(model.SerializeToString())

    hidden = onnx.load_model_from_string(MODEL)
    constant = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value=str(secret))
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["c"], value=constant)], "g", [], []
    )
    hidden.graph.node.append(onnx.helper.make_node("If", ["logits"], ["x"], then_branch=inner))
    with pytest.raises(StepError, match="outside itself"):
        OnnxPredictor(hidden.SerializeToString())


def test_what_is_no_model() -> None:
    with pytest.raises(StepError, match="not an ONNX model"):
        OnnxPredictor(b"\xff\xfe\xfd no protobuf")
    with pytest.raises(StepError, match="cannot load"):
        OnnxPredictor(b"")


def test_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_predictor, "MAX_MODEL_BYTES", len(MODEL) - 1)
    with pytest.raises(StepError, match="too large"):
        OnnxPredictor(MODEL)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(StepError, match="refused its input") as caught:
        OnnxPredictor(MODEL)(np.zeros((1, 3, 8, 8), np.float32))
    assert "[1, 3, 8, 8]" in str(caught.value)


def test_a_missing_provider_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="no cuda provider"):
        OnnxPredictor(MODEL, provider="cuda")


def test_spec_survives_json() -> None:
    original = spec(temperature=1.5)
    assert ModelSpec.from_json(original.to_json(), where="here") == original


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (0.0, 0.0)},
        {"std": (0.0,)},
        {"stored_size": 7},
        {"classes": ("one",)},
        {"temperature": 0.0},
        {"model": "sha256:no"},
        {"unknown": 1},
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec(**changes)


def test_a_spec_of_another_release_is_named() -> None:
    later = spec().to_json().replace(b'"version":1', b'"version":2')
    with pytest.raises(StoreError, match="model spec") as caught:
        ModelSpec.from_json(later, where="registry/x")
    assert "registry/x" in str(caught.value)


def test_spec_of_a_candidate() -> None:
    candidate = Candidate(
        name="int8",
        model=digest_bytes(MODEL),
        precision="int8",
        pruned=0.0,
        size_bytes=len(MODEL),
        num_parameters=6,
        accuracy_validation=0.9,
        accuracy=0.8,
    )
    ref = CompressedRef(
        tree=digest_bytes(b""),
        source=digest_bytes(b""),
        candidates=(candidate, candidate.model_copy(update={"name": "fp32"})),
        chosen="int8",
        classes=("dark", "medium", "bright"),
        image_size=8,
        stored_size=8,
        channels=1,
        mean=(0.0,),
        std=(1.0,),
    )
    assert ModelSpec.from_compressed(ref) == spec(name="int8")
    assert ModelSpec.from_compressed(ref, name="fp32").name == "fp32"
    with pytest.raises(InputError, match="no such compressed model"):
        ModelSpec.from_compressed(ref, name="fp16")
