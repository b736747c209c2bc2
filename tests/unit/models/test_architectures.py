from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from components.common.blobs import Blobs
from components.common.errors import InputError, StoreError
from components.common.refs import ModelRef
from components.common.store import open_store
from components.common.trees import Tree
from components.models.architectures import build_model, check_fits, copy_fitting
from components.models.names import ARCHITECTURES, TORCHVISION_NETWORKS, check_name
from components.models.weights import decode_weights, encode_weights, load_model, save_model
from support.synthetic_shards import striped_shards


def build(name: str, size: int, channels: Literal[1, 3] = 3, classes: int = 5) -> Any:
    torch.manual_seed(0)
    return build_model(name, num_classes=classes, channels=channels, image_size=size)


@pytest.mark.parametrize("size", [8, 12, 16, 28, 32, 48, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_lenet_takes_every_small_size(size: int, channels: Literal[1, 3]) -> None:
    model = build("lenet", size, channels)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 5)
    last = [module for module in model if isinstance(module, torch.nn.Conv2d)][-1]
    assert last.out_channels == (64 if size < 24 else 128)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_resnet_keeps_the_resolution_of_small_images(channels: Literal[1, 3]) -> None:
    small, large = build("resnet18", 32, channels), build("resnet18", 65, channels)
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, torch.nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    for model, size in ((small, 32), (large, 65)):
        assert model.eval()(torch.zeros(1, channels, size, size)).shape == (1, 5)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_torchvision_networks_take_grey_images(name: str) -> None:
    model = build(name, 64, channels=1).eval()
    check_fits(model, name, channels=1, image_size=64)
    assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 5)


def test_googlenet_has_no_side_branches() -> None:
    assert isinstance(build("googlenet", 64).train()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_the_names_are_torchvisions() -> None:
    from components.common.torchvision_compat import import_torchvision

    models = import_torchvision().models
    assert sorted(TORCHVISION_NETWORKS) == sorted(models.list_models(module=models))


@pytest.mark.parametrize(
    ("wrong", "near"), [("resnet19", "resnet18"), ("ResNet-50", "resnet50"), ("lenet5", "lenet")]
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        build(wrong, 32)
    assert caught.value.todo == f"did you mean {near}?"
    assert near in ARCHITECTURES
    assert check_name(near) == near


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="alexnet cannot take images of 16×16"):
        check_fits(build("alexnet", 16), "alexnet", channels=3, image_size=16)
    with pytest.raises(InputError, match="vit_b_16 cannot take"):
        build("vit_b_16", 28)


def test_the_seed_alone_decides_the_weights() -> None:
    first, second = build("lenet", 8), build("lenet", 8)
    assert encode_weights(first.state_dict()) == encode_weights(second.state_dict())


def test_weights_survive_and_equal_weights_are_equal_bytes() -> None:
    weights = build("lenet", 8).state_dict()
    data = encode_weights(weights)
    assert encode_weights(dict(reversed(list(weights.items())))) == data
    again = decode_weights(data, where="here")
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    with pytest.raises(StoreError, match="damaged weights"):
        decode_weights(data[:-8], where="here")


def test_a_warm_start_copies_what_fits() -> None:
    old, new = build("lenet", 8, channels=1, classes=4), build("lenet", 8, channels=1, classes=6)
    with torch.no_grad():
        for value in old.parameters():
            value.fill_(0.25)
    fresh_head = new[-1].weight.clone()
    copied, num = copy_fitting(new, old.state_dict())
    assert num - copied == 2
    assert torch.equal(new[0].weight, old[0].weight)
    assert torch.equal(new[-1].weight, fresh_head)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Blobs, nn.Module, ModelRef]:
    blobs = Blobs(open_store(str(tmp_path)))
    shards = striped_shards(blobs, train=8, val=4, test=4)
    model = build("lenet", 8, channels=1, classes=4)
    ref = save_model(
        blobs,
        model.state_dict(),
        shards,
        architecture="lenet",
        epochs=1,
        num_parameters=10,
        val_accuracy=0.5,
        history=[{"epoch": 0}],
        config={},
    )
    return blobs, model, ref


def test_a_saved_model_is_loaded_ready_to_predict(saved: tuple[Blobs, nn.Module, ModelRef]) -> None:
    blobs, model, ref = saved
    state = torch.get_rng_state()
    loaded = load_model(ref, blobs)
    assert torch.equal(torch.get_rng_state(), state)
    assert not loaded.training
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(loaded(images), model.eval()(images))
    assert set(Tree.read(blobs, ref.tree)) == {
        "weights.safetensors",
        "model.json",
        "history.json",
        "config.json",
    }


def test_weights_of_another_network_are_refused(saved: tuple[Blobs, nn.Module, ModelRef]) -> None:
    blobs, _, ref = saved
    other = ModelRef.model_validate_json(ref.to_json().replace(b'"lenet"', b'"resnet18"'))
    with pytest.raises(StoreError, match="do not fit the network resnet18"):
        load_model(other, blobs)
