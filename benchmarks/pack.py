"""A finished training as a packaged model of the zoo, and what storing it in half precision costs.

    python benchmarks/pack.py runs/fashion_mnist_unsupervised fashion-mnist-2d-unsupervised --half

Writes `zoo/NAME.safetensors` without the folder that the data had here. `--half` stores weights as
fp16, which commands read as fp32: the largest change of a posterior, in units of its sigma, is
printed. Then `paradise zoo card NAME --out zoo/NAME.yaml` writes its card.
"""

import argparse
from pathlib import Path

import torch

from paradise_cli.core.storage import file_digest, load_metadata
from paradise_cli.export.network import trial_images
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.models.weights import save_model

ZOO = Path(__file__).parent.parent / "zoo"


def packed(loaded: LoadedModel, name: str, *, half: bool) -> Path:
    """Write the weights file of the zoo."""
    parts = ("recipe", "data", "provenance")
    metadata = {part: load_metadata(loaded.source)[part] for part in parts}
    metadata["recipe"]["data"]["root"] = None
    path = ZOO / f"{name}.safetensors"
    save_model(path, loaded.model.half() if half else loaded.model, metadata)
    return path


def largest_change(before: LoadedModel, after: LoadedModel) -> float:
    """Of a mean in sigmas, or of a log sigma, over images of many kinds."""
    images = trial_images(before.info.shape, 64)
    with torch.no_grad():
        one, other = before.model.encode(images), after.model.encode(images)
    moved = ((one.mu - other.mu) / one.sigma).abs().max()
    return float(torch.maximum(moved, (one.sigma / other.sigma).log().abs().max()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder or weights file")
    parser.add_argument("name", help="of the model in the zoo")
    parser.add_argument("--half", action="store_true", help="store fp16")
    asked = parser.parse_args()
    path = packed(load(asked.run), asked.name, half=asked.half)
    print(f"{path.name}: {path.stat().st_size:,} bytes, sha256 {file_digest(path)}")
    if asked.half:
        print(f"largest change of a posterior: {largest_change(load(asked.run), load(path)):.2g}")
