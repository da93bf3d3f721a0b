"""`encode` of 2,000 JPEGs of about 500x375: against its own parts, and against a plain loop; its
memory.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import finish, fresh, machine, median, options, pairs, peak_bytes, ratio, report

from paradise_cli.build import build_info, build_model
from paradise_cli.data import decode, stream
from paradise_cli.inference.encoding import encode_to_file
from paradise_cli.inference.loading import LoadedModel, load
from paradise_cli.models.weights import save_model
from paradise_cli.recipe.schema import load_recipe
from paradise_cli.runs.prepare import weights_metadata


def photographs(folder: Path, n: int, quality: int = 92) -> list[Path]:
    """Smooth random pictures with a little grain, about as large as photographs compress to."""
    rng = np.random.default_rng(0)
    paths = [folder / f"class{i % 4}" / f"{i:05d}.jpg" for i in range(n)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.normal(128, 5, (375, 500, 1)) * np.ones(3)
        for size, contrast in ((8, 60), (32, 30), (96, 14)):
            coarse = (
                (rng.normal(128, contrast, (size * 3 // 4, size, 3))).clip(0, 255).astype(np.uint8)
            )
            pixels += (
                np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
                - 128.0
            )
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=quality)
    return paths


def model(folder: Path, size: int) -> LoadedModel:
    """A ResNet-20 at this image size with random weights, through its file."""
    recipe = load_recipe("cifar10_jpeg75_rn20", [f"data.size={size}"]).recipe
    info = build_info(recipe)
    path = folder / f"rn20-{size}.safetensors"
    save_model(
        path, build_model(recipe, info), weights_metadata(recipe, info, torch.device("cpu"), 0)
    )
    return load(path)


def plain(loaded: LoadedModel, folder: Path, out: Path) -> Callable[[], object]:
    """What most people write: ImageFolder, a DataLoader with a worker a core, and the same
    model.
    """
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    wanted = loaded.info.preprocessing
    steps = [
        transforms.Resize(wanted.resize, transforms.InterpolationMode(wanted.filter)),
        transforms.CenterCrop(wanted.crop),
        transforms.ToTensor(),
    ]
    data = ImageFolder(str(folder), transforms.Compose(steps))

    def work() -> None:
        loaded.model.to(memory_format=torch.contiguous_format)
        loader = torch.utils.data.DataLoader(
            data, batch_size=64, num_workers=torch.get_num_threads()
        )
        with torch.inference_mode():
            np.save(
                out, torch.cat([loaded.model.encode(images).mu for images, _ in loader]).numpy()
            )

    return work


def compare(folder: Path, photos: Path, images: int, size: int, bound: float, n: int) -> None:
    paths = photographs(photos, images)
    loaded, out = model(folder, size), folder / "z.npy"
    source, wanted = loaded.open(paths), loaded.info.preprocessing
    pixels = np.zeros((len(paths), *loaded.info.shape), np.uint8)

    def encode() -> None:
        encode_to_file(loaded, source, out)

    def decode_only() -> None:
        for _ in stream(paths, lambda path: decode(path, wanted)):
            pass

    def model_only() -> None:
        for _ in loaded.stream(loaded.open(pixels), loaded.posterior()):
            pass

    def parts() -> None:
        decode_only()
        model_only()

    timed = pairs(parts, encode, n)
    print(f"{size} px: encode {len(paths) / median(timed, 1):.0f} images/s")
    report(f"{size} px: encode, of 1/(1/decode + 1/model)", ratio(timed), 0.9, at_least=True)
    timed = pairs(plain(loaded, photos, folder / "plain.npy"), encode, n)
    report(f"{size} px: encode, times a plain DataLoader loop", ratio(timed), bound, at_least=True)
    theirs = np.asarray(
        Image.open(paths[0]).resize(_short_side(size), Image.Resampling.BILINEAR), np.int16
    )
    left = (theirs.shape[1] - size) // 2
    ours = decode(paths[0], wanted).transpose(1, 2, 0)
    worst = float(np.abs(theirs[:, left : left + size] - ours).max())
    report(f"{size} px: largest pixel difference, of 255", worst, 1, at_least=False)


def packaged(folder: Path, photos: Path, n: int) -> None:
    """The packaged model for photos, EfficientNet-Lite0 in front, as it is used without options."""
    paths, loaded = sorted(photos.rglob("*.jpg")), load("photos-lite0")
    source = loaded.open(paths)
    beside = plain(loaded, photos, folder / "plain.npy")
    timed = pairs(beside, lambda: encode_to_file(loaded, source, folder / "z.npy"), n)
    rates = [len(paths) / median(timed, side) for side in (0, 1)]
    print(f"photos-lite0: a plain loop {rates[0]:.1f} images/s, encode {rates[1]:.1f}")
    what = "photos-lite0: encode, times a plain DataLoader loop of the same network"
    report(what, ratio(timed), 1.3, at_least=True)


def _short_side(size: int) -> tuple[int, int]:
    return int(size * 500 / 375), size


def memory(weights: str, folder: str, n: int) -> None:
    loaded = load(weights)
    files = sorted(Path(folder).rglob("*.jpg"))
    paths = [files[i % len(files)] for i in range(n)]
    with tempfile.TemporaryDirectory() as temporary:
        encode_to_file(loaded, loaded.open(paths), Path(temporary) / "z.npz")
    print(peak_bytes() / 2**20)


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "memory":
        memory(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        chosen = options(__doc__, images=2000, pairs=3)
        machine()
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            compare(folder, folder / "photos", chosen.images, 64, 1.15, chosen.pairs)
            compare(folder, folder / "fewer", chosen.images // 4, 224, 1.25, chosen.pairs)
            packaged(folder, folder / "photos", chosen.pairs)
            where = [str(folder / "rn20-64.safetensors"), str(folder / "photos")]
            few, many = (float(fresh(__file__, "memory", *where, str(n))) for n in (2_000, 20_000))
            print(f"peak memory at 2,000 images {few:.0f} MiB, at 20,000 {many:.0f} MiB")
            report("difference, MiB", abs(many - few), 100, at_least=False)
            what = f"`encode` of {chosen.images:,} JPEGs of 500x375, at 224 px of a quarter"
            finish(chosen, what=what, data="random smooth pictures")
