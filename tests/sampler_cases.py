"""The samplers under test: a row each, with settings that change an image visibly."""

from typing import Any

import torch
from torch import Tensor

from paradise_cli.core.randomness import generator, keyed_uniform
from paradise_cli.perturbations.samplers import SAMPLERS, Sampler

SETTINGS: dict[str, dict[str, Any]] = {
    "blur": {"sigma": 0.8},
    "box_jitter": {"place": 0.1, "size": 0.2},
    "brightness_contrast": {"brightness": 0.2, "contrast": 0.5},
    "composition": {"of": [SAMPLERS["corner"](eps=0.05), SAMPLERS["rotation"](degrees=5.0)]},
    "corner": {"eps": 8 / 255},
    "crop": {"share": 0.7},
    "gaussian": {"sigma": 0.1},
    "image": {},
    "jpeg": {"quality": 20},
    "rotation": {"degrees": 30.0},
    "translation": {"share": 0.2},
    "uniform": {"eps": 8 / 255},
}


class NoModel:
    """The model of samplers that do not ask one."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a random sampler asked the model for its {name}")


def sampler(name: str, **settings: Any) -> Sampler:
    """A sampler with these settings, else with those of its row."""
    return SAMPLERS[name](**(settings or SETTINGS[name]))


def drawn(chosen: Sampler, images: Tensor, keys: Tensor) -> Tensor:
    """The views of a sampler that asks neither the labels nor the model."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    return chosen(images, labels, NoModel(), keys)  # type: ignore[arg-type]


def smooth_images(count: int, channels: int = 3, size: tuple[int, int] = (20, 28)) -> Tensor:
    """Images in [0, 1] with soft shapes, as photographs have and noise has not."""
    coarse = torch.rand(count, channels, 5, 5, generator=generator("smooth", channels))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


def keys(count: int, seed: int = 0) -> Tensor:
    """A key for each of some images."""
    return (keyed_uniform(torch.arange(count), (1,), seed)[:, 0] * 2**40).long()
