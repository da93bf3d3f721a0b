"""Shapes, parameter counts, structure and invariances of every backbone and head."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from paradise_cli.build import build_info, build_model
from paradise_cli.core.errors import UsageError
from paradise_cli.core.randomness import generator
from paradise_cli.models import BACKBONES, HEADS, StochasticEncoder
from paradise_cli.models.resnet import PadShortcut, PreActBlock
from paradise_cli.recipe.schema import load_recipe

# name, hyper-parameters, input shape, features
BACKBONE_ROWS = [
    ("mlp", {"hidden": [24, 12]}, (1, 8, 8), 12),
    ("mlp", {"hidden": []}, (1, 8, 8), 64),
    ("conv", {"width": 4}, (1, 28, 28), 32),
    ("conv", {"width": 4}, (3, 64, 64), 512),
    ("conv", {"width": 4}, (3, 33, 50), 192),
    ("strided_conv", {"widths": [16, 24, 32], "batch_norm": True}, (3, 33, 17), 1440),
    ("strided_conv", {"widths": [4, 6]}, (1, 8, 8), 96),
    ("preact_resnet", {"depth": 8}, (3, 32, 32), 64),
    ("preact_resnet", {"depth": 14}, (1, 29, 31), 64),
    ("preact_resnet_imagenet", {"depth": 18}, (3, 64, 64), 512),
    ("wide_resnet", {"depth": 10, "width": 2, "dropout": 0.3}, (3, 32, 32), 128),
    ("wide_resnet", {"depth": 10, "width": 1}, (3, 32, 32), 64),
    ("frozen", {"model": "efficientnet_lite0"}, (3, 40, 36), 1280),
]
FAMILIES = [next(row for row in BACKBONE_ROWS if row[0] == name) for name in BACKBONES]
# name, hyper-parameters, smallest output side
HEAD_ROWS = [
    ("linear", {}, 1),
    ("mlp_decoder", {"hidden": [24]}, 1),
    ("mlp_decoder", {"hidden": []}, 1),
    ("conv_decoder", {"width": 2}, 16),
    ("projection", {"hidden": [24], "features": 7}, 1),
    ("conv_decoder", {"width": 2, "kernel": 3, "smooth": False}, 16),
]


def make(
    backbone="mlp",
    hyper=None,
    shape=(1, 8, 8),
    heads=("linear",),
    classes=5,
    latent_dim=3,
    **options,
):
    """A small encoder; `heads` are names, or (name, hyper-parameters) where the head needs some."""
    torch.manual_seed(0)
    hyper = {"hidden": [16]} if hyper is None else hyper
    rows = [(head, {}) if isinstance(head, str) else head for head in heads]
    return StochasticEncoder(
        BACKBONES[backbone](shape, **hyper),
        {
            f"task{i}": HEADS[name](latent_dim, classes, shape, **hyper)
            for i, (name, hyper) in enumerate(rows)
        },
        latent_dim=latent_dim,
        in_shape=shape,
        **options,
    )


def images(shape, batch=4, dtype=torch.float32):
    return torch.rand(batch, *shape, generator=generator(1, "images"), dtype=dtype)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_tables_name_every_component():
    assert {row[0] for row in BACKBONE_ROWS} == set(BACKBONES)
    assert {row[0] for row in HEAD_ROWS} == set(HEADS)


@pytest.mark.parametrize("head, head_hyper, smallest", HEAD_ROWS)
@pytest.mark.parametrize("backbone, hyper, shape, features", BACKBONE_ROWS)
def test_shapes(backbone, hyper, shape, features, head, head_hyper, smallest):
    if min(shape[1:]) < smallest:
        with pytest.raises(
            UsageError, match=f"{head}: images of 8x8 are smaller than 16x16; use mlp"
        ):
            HEADS[head](3, 5, shape, **head_hyper)
        return
    model = make(backbone, hyper, shape, [(head, head_hyper)])
    x = images(shape)
    assert model.backbone.out_features == features
    assert model.backbone(x).shape == (4, features)
    posterior, z, outputs = model(x, torch.randn(4, 3))
    assert posterior.mu.shape == posterior.sigma.shape == z.shape == (4, 3)
    kind = model.heads["task0"].kind
    shapes = {"logits": (4, 5), "pixels": (4, *shape), "embedding": (4, 7)}
    assert outputs["task0"].shape == shapes[kind]


@settings(max_examples=25, deadline=None)
@given(st.integers(16, 70), st.integers(16, 70), st.sampled_from([3, 5]), st.booleans())
def test_conv_decoder_draws_any_size(height, width, kernel, smooth):
    head = HEADS["conv_decoder"](2, 0, (3, height, width), width=1, kernel=kernel, smooth=smooth)
    assert head(torch.zeros(2, 2)).shape == (2, 3, height, width)
    assert head.grid == (8, math.ceil(height / 8), math.ceil(width / 8))


def preact_count(depth):
    n = (depth - 2) // 6
    convolutions = 27 * 16 + 9 * (
        2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2
    )
    norms = 2 * ((2 * n + 1) * 16 + 2 * n * 32 + 2 * n * 64)
    return convolutions + norms + 64 * 10 + 10


def wide_count(depth, width):
    n, c = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    convolutions = 27 * 16 + sum(
        9 * (a * b + (2 * n - 1) * b * b) + a * b * (a != b) for a, b in pairwise(c)
    )
    norms = 2 * (sum(a + (2 * n - 1) * b for a, b in pairwise(c)) + c[3])
    return convolutions + norms + c[3] * 10 + 10


def imagenet_count(blocks):
    c = [64, 64, 128, 256, 512]
    total = 3 * 64 * 49 + 2 * 64 + 2 * 512 + 512 * 1000 + 1000
    for n, a, b in zip(blocks, c, c[1:], strict=False):
        total += 9 * (a * b + (2 * n - 1) * b * b) + a * b * (a != b) + 2 * (a + (2 * n - 1) * b)
    return total - 2 * 64  # the very first block has no leading batch norm


@pytest.mark.parametrize(
    "name, hyper, classes, published, derived",
    [
        ("preact_resnet", {"depth": 20}, 10, 0.27e6, preact_count(20)),
        ("preact_resnet", {"depth": 32}, 10, 0.46e6, preact_count(32)),
        ("preact_resnet", {"depth": 56}, 10, 0.85e6, preact_count(56)),
        ("preact_resnet", {"depth": 110}, 10, 1.73e6, preact_count(110)),
        ("preact_resnet_imagenet", {}, 1000, 21.8e6, imagenet_count((3, 4, 6, 3))),
        ("wide_resnet", {}, 10, 36_479_194, wide_count(28, 10)),
        ("wide_resnet", {"depth": 16, "width": 4}, 10, 2.75e6, wide_count(16, 4)),
        ("wide_resnet", {"depth": 40, "width": 4}, 10, 8.95e6, wide_count(40, 4)),
    ],
)
def test_published_parameter_counts(name, hyper, classes, published, derived):
    with FakeTensorMode():
        backbone = BACKBONES[name]((3, 32, 32), **hyper)
        count = parameters(backbone) + parameters(
            HEADS["linear"](backbone.out_features, classes, (3, 32, 32))
        )
    assert count == derived
    assert count == pytest.approx(published, rel=0 if published == 36_479_194 else 0.005 / 0.27)


def test_convolutional_parameter_counts():
    """Method 4.4: 1,024 features for 28x28, 16,384 for 64x64, and both published decoders."""
    with FakeTensorMode():
        assert BACKBONES["conv"]((1, 28, 28)).out_features == 1024
        assert BACKBONES["conv"]((3, 64, 64)).out_features == 16384
        celeba = HEADS["conv_decoder"](64, 0, (3, 64, 64))
        mnist = HEADS["conv_decoder"](2, 0, (1, 28, 28), kernel=3, smooth=False)
    celeba_deconvolutions = (
        25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3) + 3 * (512 + 256 + 128) + 3
    )
    assert parameters(celeba) == 65 * 65536 + celeba_deconvolutions
    assert parameters(mnist) == 3 * 16384 + 9 * (1024 * 512 + 512 * 256 + 256) + 3 * (512 + 256) + 1


@pytest.mark.parametrize(
    "name, hyper, message",
    [
        ("preact_resnet", {"depth": 21}, "depth 21 is not 6n\\+2 with n >= 1; nearest: 20, 26"),
        ("preact_resnet", {"depth": 2}, "nearest: 8"),
        ("preact_resnet", {"depth": -5}, "nearest: 8"),
        ("preact_resnet_imagenet", {"depth": 20}, "depth 20 is not one of 18, 34"),
        ("wide_resnet", {"depth": 20}, "6n\\+4 with n >= 1; nearest: 16, 22"),
        ("wide_resnet", {"width": 0}, "wide_resnet: width must be at least 1, not 0"),
        ("wide_resnet", {"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ("mlp", {"hidden": [8, 0]}, "mlp: hidden must be at least 1, not 0"),
        ("conv", {"width": 0}, "conv: width must be at least 1, not 0"),
        ("strided_conv", {"widths": [8, 0]}, "strided_conv: widths must be at least 1, not 0"),
        ("strided_conv", {"widths": []}, "strided_conv: layers must be at least 1, not 0"),
    ],
)
def test_impossible_backbones_are_refused(name, hyper, message):
    with pytest.raises(UsageError, match=message):
        BACKBONES[name]((3, 32, 32), **hyper)


def test_convolutions_start_at_he_scale():
    backbone = BACKBONES["preact_resnet"]((3, 32, 32))
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            count, std = module.weight.numel(), math.sqrt(2 / (9 * module.out_channels))
            assert abs(module.weight.std() / std - 1) < 5 / math.sqrt(2 * count)
            assert abs(module.weight.mean()) < 5 * std / math.sqrt(count)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


@pytest.mark.parametrize("entry", ["own", "shared", "none"])
def test_block_with_silent_branch_is_its_shortcut(entry):
    block = PreActBlock(4, 6, 2, PadShortcut(2, 2), entry=entry)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(3, 4, 7, 8, generator=generator(0))
    entered = torch.relu(block.norm1(x)) if entry == "shared" else x
    out = block(x)
    assert torch.equal(out[:, :4], entered[:, :, ::2, ::2])
    assert (out[:, 4:] == 0).all()


@pytest.mark.parametrize(
    "name, hyper, shared, strides, shortcuts",
    [
        ("preact_resnet", {"depth": 14}, "yn yn yn", "11 21 21", "ii pi pi"),
        ("preact_resnet_imagenet", {"depth": 18}, "nn yn yn yn", "11 21 21 21", "ii ci ci ci"),
        ("wide_resnet", {"depth": 16, "width": 2}, "yn yn yn", "11 21 21", "ci ci ci"),
        ("wide_resnet", {"depth": 16, "width": 1}, "nn yn yn", "11 21 21", "ii ci ci"),
    ],
)
def test_residual_structure(name, hyper, shared, strides, shortcuts):
    """Method 4.1-4.3: who shares BN-ReLU with the shortcut, the strides, and what each shortcut
    is.
    """
    blocks = BACKBONES[name]((3, 32, 32), **hyper).blocks
    kinds = {nn.Identity: "i", PadShortcut: "p", nn.Conv2d: "c"}
    assert "".join("y" if b.shared else "n" for b in blocks) == shared.replace(" ", "")
    assert "".join(str(b.conv1.stride[0]) for b in blocks) == strides.replace(" ", "")
    assert "".join(kinds[type(b.shortcut)] for b in blocks) == shortcuts.replace(" ", "")
    assert [b.norm1 is None for b in blocks] == [
        i == 0 and "imagenet" in name for i in range(len(blocks))
    ]


@pytest.mark.parametrize("backbone, hyper, shape, features", FAMILIES)
def test_channels_last_changes_nothing(backbone, hyper, shape, features):
    model = make(backbone, hyper, shape).double().eval()
    x = images(shape, dtype=torch.float64)
    expected = model.encode(x).mu
    maps = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, inputs, out: maps.append(out))
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        model.encode(x.contiguous(memory_format=torch.channels_last)).mu, expected
    )
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@pytest.mark.parametrize("head, head_hyper, smallest", HEAD_ROWS)
# Weights that come from a file are on no fake device.
@pytest.mark.parametrize(
    "backbone, hyper, shape, features", [row for row in FAMILIES if row[0] != "frozen"]
)
def test_everything_stays_on_the_device(
    backbone, hyper, shape, features, head, head_hyper, smallest
):
    if min(shape[1:]) < smallest:
        shape = (1, 16, 16)
    with FakeTensorMode(), torch.device("cuda"):
        model = make(backbone, hyper, shape, [(head, head_hyper)])
        x = torch.rand(4, *shape)
        posterior, z, outputs = model(x, torch.randn(4, 3))
        results = [*posterior, z, outputs["task0"]]
        if head == "linear":
            results += [model.classifier(k)(x) for k in (0, 3)]
    assert all(value.device.type == "cuda" for value in results)


@pytest.mark.parametrize("backbone, hyper, shape, features", FAMILIES)
def test_compiles_to_one_graph(backbone, hyper, shape, features):
    torch._dynamo.reset()
    decoder = "mlp_decoder" if backbone == "mlp" else "conv_decoder"
    decoder_hyper = {"hidden": [8]} if backbone == "mlp" else {"width": 1}
    model = make(backbone, hyper, shape, ["linear", (decoder, decoder_hyper)])
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    for _ in range(2):
        out = compiled(images(shape), torch.zeros(4, 3))[2]
        sum(o.sum() for o in out.values()).backward()
    assert counter.frame_count == 1


def test_a_classifier_of_data_without_labels_is_refused_without_a_warning() -> None:
    """Torch has a warning of its own for a layer that leads to nothing."""
    chosen = load_recipe("gaussian_source", ["objective.tasks.0.head=linear"]).recipe
    with pytest.raises(UsageError, match="squared_error cannot read head linear"):
        build_model(chosen, build_info(chosen))
