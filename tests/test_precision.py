"""In which precision a training computes, where torch leaves gradients undefined in bf16."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from paradise_cli.build import build_info, build_model
from paradise_cli.core import machine
from paradise_cli.core.errors import UsageError
from paradise_cli.runs import prepare
from paradise_cli.runs.precision import in_sound_precision

from .test_training import recipe, run

CPU = torch.device("cpu")


def strided(widths: list[int]) -> str:
    return f"model.backbone={{name: strided_conv, widths: {widths}}}"


# Of 8x8 pixels the first layer keeps all, three strides leave one, and the next sees padding too.
@pytest.mark.parametrize(
    ("backbone", "precision", "chosen"),
    [
        (strided([2, 2, 2, 2]), "auto", "bf16"),
        (strided([2, 2, 2, 2]), "bf16", "bf16"),
        (strided([2, 2, 2, 2, 2]), "auto", "fp32"),
        (strided([2, 2, 2, 2, 2]), "fp32", "fp32"),
        ("model.backbone={name: mlp, hidden: [4]}", "auto", "bf16"),
    ],
)
def test_bf16_is_chosen_where_every_weight_sees_a_pixel(
    backbone: str, precision: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "fast_bf16", lambda device: True)
    asked = recipe(backbone, f"train.precision={precision}")
    info = build_info(asked)
    found = in_sound_precision(asked, build_model(asked, info), info.shape, CPU)
    assert found.train.precision == chosen


def test_what_began_in_one_precision_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "train.epochs=1")
    monkeypatch.setattr(prepare, "in_sound_precision", None)  # nobody asks
    run(tmp_path, "train.epochs=2")
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 24


def test_padding_in_words_is_none() -> None:
    asked = recipe(strided([2, 2]), "train.precision=bf16")
    info = build_info(asked)
    model = build_model(asked, info)
    model.backbone.layers = nn.Sequential(nn.Conv2d(1, 4, 8, stride=2, padding="valid"))
    found = in_sound_precision(asked, model, info.shape, CPU)
    assert found.train.precision == "bf16"


def test_bf16_is_refused_where_a_weight_sees_padding_alone() -> None:
    asked = recipe(strided([2, 2, 2, 2, 2]), "train.precision=bf16")
    info = build_info(asked)
    with pytest.raises(
        UsageError, match=r"^train.precision bf16: .* of backbone.layers.8 undefined"
    ):
        in_sound_precision(asked, build_model(asked, info), info.shape, CPU)
