"""Networks by name: a small convolutional one for small images, and everything that torchvision has."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from components.common.errors import InputError
from components.models.names import check_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_IMAGE = 64
"""Up to this side in pixels a ResNet gets the stem of the CIFAR networks: 3×3, stride 1, no pooling."""

LENET_WIDTHS = (16, 32, 64, 128)
LENET_TINY_WIDTHS = (32, 64)
"""Below 12 pixels, where two halvings are all there is room for, and wide layers cost little."""
LENET_DROPOUT = 0.1


def build_model(name: str, *, num_classes: int, channels: int, image_size: int) -> nn.Module:
    """A freshly initialised network: float32 [n, channels, image_size, image_size] → logits [n, num_classes].

    The weights come from torch's global generator: seed it first. Raises `InputError` for an unknown name (with the
    nearest valid one) and for images that the network cannot take.
    """
    check_name(name)
    if name == "lenet":
        return lenet(num_classes, channels, image_size)
    try:
        return _torchvision_model(name, num_classes, channels, image_size)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _unfit(name, image_size, error) from error


def check_fits(model: nn.Module, name: str, *, channels: int, image_size: int) -> None:
    """Raises `InputError` where the network cannot take images of that size (too few pixels for its poolings)."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, channels, image_size, image_size))
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _unfit(name, image_size, error) from error
    finally:
        model.train(training)


def lenet(num_classes: int, channels: int, image_size: int) -> nn.Sequential:
    """LeNet's plan with today's parts: pairs of 3×3 convolutions with batch norm, halved by pooling, for 8 to 64 px.

    Two stages below 12 pixels, three below 24, else four; the last feature map is 2 to 4 pixels wide. At 28 pixels a pass costs 9
    million multiplications, so that two cores train tens of thousands of images in minutes.
    """
    layers: list[nn.Module] = []
    width_in = channels
    for stage, width in enumerate(_lenet_widths(image_size)):
        layers += [*_conv(width_in, width), *_conv(width, width)]
        if image_size >> stage >= 4:
            layers.append(nn.MaxPool2d(2))
        width_in = width
    layers += [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(LENET_DROPOUT),
        nn.Linear(width_in, num_classes),
    ]
    return nn.Sequential(*layers)


def _lenet_widths(image_size: int) -> tuple[int, ...]:
    if image_size < 12:
        return LENET_TINY_WIDTHS
    return LENET_WIDTHS[: 3 if image_size < 24 else 4]


def _conv(width_in: int, width: int) -> "Iterator[nn.Module]":
    yield nn.Conv2d(width_in, width, 3, padding=1, bias=False)
    yield nn.BatchNorm2d(width)
    yield nn.ReLU(inplace=True)


def _torchvision_model(name: str, num_classes: int, channels: int, image_size: int) -> nn.Module:
    from components.common.torchvision_compat import import_torchvision

    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        # Their side branches return tuples in training, and help only where batch norm is missing.
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name == "maxvit_t":
        options["input_size"] = (image_size, image_size)
    model = cast("nn.Module", import_torchvision().models.get_model(name, **options))
    if name.startswith(("resnet", "resnext", "wide_resnet")) and image_size <= SMALL_IMAGE:
        _small_image_stem(model, channels)
    elif channels != 3:
        _set_channels(model, channels)
    return model


def _small_image_stem(resnet: Any, channels: int) -> None:
    """He et al. 2015, section 4.2: small images keep their resolution in the first layer."""
    resnet.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
    resnet.maxpool = nn.Identity()


def _set_channels(model: nn.Module, channels: int) -> None:
    """Replace the first convolution by one that takes `channels`."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            new = nn.Conv2d(
                channels,
                module.out_channels,
                cast("tuple[int, int]", module.kernel_size),
                cast("tuple[int, int]", module.stride),
                cast("tuple[int, int]", module.padding),
                bias=module.bias is not None,
            )
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, new)
            return


def num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def copy_fitting(model: nn.Module, weights: dict[str, Tensor]) -> tuple[int, int]:
    """Warm start: copy every tensor whose name and shape fit. Returns how many were copied, and how many there are.

    A head for other classes has another shape and keeps its fresh weights.
    """
    own = model.state_dict()
    fitting = {
        name: value for name, value in weights.items() if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return len(fitting), len(own)


def _unfit(name: str, image_size: int, error: Exception) -> InputError:
    return InputError(
        f"the network {name} cannot take images of {image_size}×{image_size} pixels",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        todo="set a larger image size, or a network for small images (lenet, resnet18)",
    )
