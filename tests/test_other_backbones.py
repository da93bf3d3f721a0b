"""Networks of somebody else as frozen backbones: the page's example, and what cannot be one."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import normalize
from torchvision.models import resnet18
from typer.testing import CliRunner

from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.inference.loading import load
from paradise_cli.models import BACKBONES
from paradise_cli.models.frozen import NETWORKS
from tests.pages import ROOT, blocks

SIZE = 32
MEAN, STD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of two classes, with a cache and a register of networks that end with the test."""
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(NETWORKS, "_factories", dict(NETWORKS._factories))
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path)
    yield
    sys.modules.pop("my_networks", None)


def original() -> nn.Module:
    """The network whose weights stand in for those of the Hub."""
    torch.manual_seed(0)
    network = resnet18().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


def run(*words: str) -> None:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output


def test_the_network_of_the_page_is_trained_behind_and_encodes(
    place: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = original()
    save_file(network.state_dict(), "weights.safetensors")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: "weights.safetensors")
    (page,) = [b for b in blocks(ROOT / "docs/photos.md") if b.file_name == "my_networks.py"]
    Path("my_networks.py").write_text(page.text)
    chosen = ["imports=[my_networks]", "model.backbone.model=resnet18_a1", "data.root=photos",
              f"data.size={SIZE}", f"data.short_side={SIZE}", "train.frontier=[]",
              "train.min_steps=2"]  # fmt: skip
    run("train", "photos", *[word for each in chosen for word in ("--set", each)], "--out", "run")
    run("encode", "photos", "--model", "run", "--features", "--out", "z.npy")
    files = sorted(Path("photos").rglob("*.png"))
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(f))) for f in files])
    network.fc = nn.Identity()
    with torch.no_grad():
        wanted = network((pixels.movedim(3, 1) / 255 - MEAN) / STD)
    found = torch.from_numpy(np.load("z.npy"))
    lines = Path("z.index.csv").read_text().splitlines()[1:]
    order = [next(n for n, line in enumerate(lines) if str(f) in line) for f in files]
    torch.testing.assert_close(found[order], wanted, atol=1e-4, rtol=1e-4)
    # Of the 11 million weights of the backbone none is saved; and what is exported answers alike.
    assert Path("run/model.safetensors").stat().st_size < 200_000
    run("export", "run", "--format", "torch", "--out", "model.pt2")


def test_a_model_of_the_zoo_is_a_backbone(place: None) -> None:
    (page,) = [b for b in blocks(ROOT / "docs/photos.md") if b.file_name == "my_encoder.py"]
    exec(compile(page.text, str(page), "exec"), {"__name__": "__main__"})
    pixels = torch.rand(4, 3, 32, 32, generator=generator(0, "pixels"))
    backbone = BACKBONES["frozen"]((3, 32, 32), model="cifar10_rn20")
    original = load("cifar10-rn20").model
    assert torch.equal(backbone(pixels), original.features(pixels))
    assert backbone.out_features == original.backbone.out_features == 64
    assert list(backbone.parameters()) == [] and backbone.state_dict() == {}
    with pytest.raises(UsageError, match=r"rn20 fails on an image of 3x64x64: .*3x32x32"):
        BACKBONES["frozen"]((3, 64, 64), model="cifar10_rn20")


def given(module: Any, name: str = "network") -> str:
    """The name of a network that is registered for this test."""

    def network() -> Any:
        return module

    network.__name__ = name
    NETWORKS.register(network)
    return name


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(3, 5, 3), r"of an image of 3x32x32 network makes \[1, 5, 30, 30\], where feat"),
        (nn.Linear(32, 5), r"network makes \[1, 3, 32, 5\], where features are \[1, F\]"),
        (nn.Flatten(0), r"network makes \[3072\], where features are \[1, F\]: end it with a mean"),
        (nn.Conv2d(1, 5, 3), "network fails on an image of 3x32x32: RuntimeError: Given groups=1"),
        (nn.MultiheadAttention(4, 2), "network fails on an image of 3x32x32: TypeError"),
        (normalize, "network is a function; let it return a torch.nn.Module"),
    ],
    ids=["map", "line", "no batch", "grey", "other arguments", "no module"],
)
def test_what_gives_no_features_is_one_message(place: None, module: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^frozen: .*{message}"):
        BACKBONES["frozen"]((3, SIZE, SIZE), model=given(module))


def test_what_cannot_be_made_is_one_message(place: None) -> None:
    """As with the weights of another network."""

    def network() -> nn.Module:
        made = nn.Linear(2, 3)
        made.load_state_dict(nn.Linear(2, 4).state_dict())
        return made

    NETWORKS.register(network)
    message = r"^frozen: network cannot be made: RuntimeError: Error\(s\) in loading state_dict"
    with pytest.raises(ParadiseError, match=message):
        BACKBONES["frozen"]((3, SIZE, SIZE), model="network")


def test_nothing_of_it_is_trained_saved_or_moves(place: None) -> None:
    """Statistics of batch norm, dropout and a buffer of its own among it."""
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3072), nn.Dropout(), nn.Linear(3072, 7))
    network.register_buffer("own", torch.ones(1))
    backbone = BACKBONES["frozen"]((3, SIZE, SIZE), model=given(network))
    images = torch.rand(4, 3, SIZE, SIZE)
    before = backbone(images)
    assert torch.equal(backbone.train()(images), before)
    assert not list(backbone.parameters()) and not backbone.state_dict()
    assert backbone.load_state_dict({}) and backbone.out_features == 7
    pixels: Any = BACKBONES["frozen"]((3, SIZE, SIZE), model=given(nn.Flatten(), "pixels"))
    assert pixels.out_features == 3072 and pixels.device.type == "cpu"


def test_other_weights_and_other_layers_are_other_features(place: None) -> None:
    """By the digest that names what is kept of them."""

    def digest(*layers: nn.Module) -> str:
        torch.manual_seed(0)
        NETWORKS._factories.pop("network", None)
        name = given(nn.Sequential(nn.Flatten(), nn.Linear(3072, 4), *layers))
        backbone: Any = BACKBONES["frozen"]((3, SIZE, SIZE), model=name)
        return str(backbone.digest)

    plain = digest(nn.ReLU())
    assert digest(nn.ReLU()) == plain
    assert plain not in (digest(nn.GELU()), digest(nn.ReLU(), nn.Linear(4, 4)))
