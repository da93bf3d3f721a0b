"""Images streamed from class folders and from tar shards: beside a bare decoder; their memory.

    python benchmarks/streaming.py --save

JPEGs of 500x375 in a random order, with the crops and flips of the ImageNet recipes at 224 pixels.
The limit is the decoder in as many threads, which keeps nothing; a training may take as long as
that and its steps on images in memory, one after the other. Peaks are those of new processes.
"""

import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from encode_speed import photographs
from timing import (
    finish,
    fresh,
    machine,
    median,
    options,
    pairs,
    peak_bytes,
    ratio,
    report,
    resident_bytes,
    seconds,
)

from paradise_cli.build import build_info, build_model, build_objective, build_optimizer, build_plan
from paradise_cli.core.processes import keep_freed_memory
from paradise_cli.core.randomness import generator, permutation
from paradise_cli.data import DATASETS, FolderSplit, MemorySplit, Split, batches, decode
from paradise_cli.data.streaming import worker_count
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.training.loop import Fit, Reporter

KINDS = {"image_folder": "class folders", "tar_shards": "tar shards"}
DISTINCT, CLASSES, SHARDS, TESTED = 300, 100, 12, 200  # pictures, then as many copies as needed
HYPER = {"size": 224, "short_side": 256, "train_crop": "random_resized"}
QUALITY = 95  # files of about 100 kB, as those of ImageNet
FLOAT = 4  # bytes
CPU = torch.device("cpu")
KEY = 0, 0


def make(folder: Path, n: int) -> None:
    """The same images as train/ and test/ of class folders and of tar shards, once."""
    if (folder / str(n)).exists():
        return
    with tempfile.TemporaryDirectory() as made:
        content = [path.read_bytes() for path in photographs(Path(made), DISTINCT, QUALITY)]
    for split, count in (("train", n), ("test", TESTED)):
        names = [f"{row % CLASSES:03}/{row:06}.jpg" for row in range(count)]
        for row, name in enumerate(names):
            path = folder / "image_folder" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[row % DISTINCT])
        (folder / "tar_shards" / split).mkdir(parents=True)
        # Uneven: the last shard holds many times as many as the first.
        ends = (np.arange(1, SHARDS + 1) ** 2 / SHARDS**2 * count).astype(int)
        for number, rows in enumerate(np.split(permutation(count, 0, "shards").numpy(), ends)):
            if len(rows):
                shard = folder / "tar_shards" / split / f"{number:03}.tar"
                pack(shard, {names[row]: content[row % DISTINCT] for row in rows})
    (folder / str(n)).touch()


def pack(shard: Path, files: dict[str, bytes]) -> None:
    """A tar file of these."""
    with tarfile.open(shard, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))


def training_images(folder: Path, kind: str) -> FolderSplit:
    split = DATASETS[kind](folder / kind, **HYPER).train
    assert isinstance(split, FolderSplit)
    return split


def recipe_of(folder: Path, kind: str, batch: int) -> Recipe:
    """ImageNet's, on these images and with a network that takes about as long as decoding."""
    data = f"data={{name: {kind}, root: {folder / kind}, augment: [flip], validation: 0.0}}"
    more = [f"data.{name}={value}" for name, value in HYPER.items()]
    small = ["model.backbone={name: conv, width: 4}", "model.latent_dim=32", "views=[image]"]
    train = ["objective.matching=null", f"train.batch_size={batch}", "train.epochs=1"]
    return load_recipe("imagenet_rn34_pm", [data, *more, *small, *train]).recipe


def decoding(split: FolderSplit, order: torch.Tensor) -> Callable[[], None]:
    """The limit: each image of the order is decoded and let go."""

    def one(row: int) -> None:
        decode(split.file(row), split.preprocessing, generator(*KEY, "crop", row))

    def work() -> None:
        with ThreadPoolExecutor(worker_count()) as pool:
            for _ in pool.map(one, order.tolist()):
                pass

    return work


def streaming(split: FolderSplit, order: torch.Tensor, recipe: Recipe) -> Callable[[], None]:
    """The batches of a training, of which nothing is made."""
    augment = build_plan(recipe, torch.nn.Module(), CPU).augment
    size = recipe.train.batch_size

    def work() -> None:
        for _ in batches(
            split, order=order, batch_size=size, device=CPU, augment=augment, key=KEY, train=True
        ):
            pass

    return work


def training(split: Split, recipe: Recipe) -> Callable[[], object]:
    """An epoch of the recipe on these images."""
    info = build_info(recipe)
    model, objective = build_model(recipe, info), build_objective(recipe, info)
    optimizer, plan = build_optimizer(recipe, model.parameters()), build_plan(recipe, model, CPU)
    return lambda: Fit(model, objective, optimizer, plan, CPU, Reporter()).run(split)


def speed(folder: Path, kind: str, images: int, batch: int, n: int) -> None:
    """What is streamed and trained in a second, beside its limits."""
    split, recipe = training_images(folder, kind), recipe_of(folder, kind, batch)
    order = permutation(len(split), *KEY)[:images]
    limit, where = decoding(split, order), KINDS[kind]
    timed = pairs(limit, streaming(split, order, recipe), n)
    rates = [images / median(timed, side) for side in (0, 1)]
    print(f"{where}: decoder {rates[0]:.0f} images/s, batches {rates[1]:.0f}", flush=True)
    report(f"{where}: batches, of the decoder", ratio(timed), 0.9, at_least=True)
    chosen = split.select(order)
    pixels = torch.from_numpy(np.stack([decode(chosen.file(row), chosen.preprocessing)
                                        for row in range(batch)]))  # fmt: skip
    held = MemorySplit(pixels, chosen.labels, chosen.ids, torch.arange(images) % batch)
    step = training(held, recipe)

    def parts() -> None:
        limit()
        step()

    timed = pairs(parts, training(chosen, recipe), n)
    print(f"{where}: training {images / median(timed, 1):.0f} images/s, steps alone"
          f" {images / seconds(step):.0f}", flush=True)  # fmt: skip
    report(f"{where}: training, of 1/(1/decoder + 1/step)", ratio(timed), 0.9, at_least=True)


def memory(folder: Path, kind: str, images: int, batch: int) -> None:
    """Print the bytes that a pass over so many images takes at its peak, and those it starts at."""
    keep_freed_memory()
    split, recipe = training_images(folder, kind), recipe_of(folder, kind, batch)
    work = streaming(split, permutation(len(split), *KEY)[:images], recipe)
    before = resident_bytes()
    work()
    print(peak_bytes(), before)


def main() -> None:
    chosen = options(__doc__, pairs=5, images=2_000, all=20_000, batch=128, folder=None)
    machine()
    with ExitStack() as until:
        folder = chosen.folder or Path(until.enter_context(tempfile.TemporaryDirectory()))
        make(folder, chosen.all)
        for kind in KINDS:
            speed(folder, kind, chosen.images, chosen.batch, chosen.pairs)
        # What is held at a time: two batches of bytes in the window, and two as floats.
        held = 2 * (1 + FLOAT) * chosen.batch * 3 * HYPER["size"] ** 2
        for kind, where in KINDS.items():
            peaks = []
            for images in (chosen.images, chosen.all):
                words = [str(folder), kind, str(images), str(chosen.batch)]
                peak, before = map(int, fresh(__file__, "memory", *words).split())
                print(f"{where}, {images:,} images: {before / 2**20:.0f} MiB before, "
                      f"{peak / 2**20:.0f} at the peak", flush=True)  # fmt: skip
                peaks.append(peak)
            claim = f"{where}: peak of all images less of {chosen.images:,}, of two batches"
            report(claim, (peaks[1] - peaks[0]) / held, 1, at_least=False)
    what = f"{chosen.all:,} JPEGs of 500x375 streamed by {worker_count()} threads, at 224 px"
    finish(chosen, what=what, data="random smooth pictures")


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
