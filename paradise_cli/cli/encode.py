"""`paradise encode`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.images import (
    SHOWN_DIGITS,
    AheadOption,
    ImagesArgument,
    ModelOption,
    in_order,
    load_and_say,
    origin_of,
    report_skipped,
)
from paradise_cli.cli.options import DeviceOption, JsonOption, OverwriteOption, written
from paradise_cli.cli.output import note, print_json
from paradise_cli.core.errors import UsageError
from paradise_cli.core.ranges import MOST_DRAWS
from paradise_cli.core.results import EMBEDDINGS, REMEDY, origin_at, replacing
from paradise_cli.core.signals import goes_on
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.inference.encoding import Encoded
    from paradise_cli.inference.image_sources import ImageSource
    from paradise_cli.inference.loading import LoadedModel


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        callback=written(*EMBEDDINGS, chooses=True),
        help="z.npy (means), z.npz, z.parquet or z.safetensors (everything).",
    ),
]
Features = Annotated[
    bool, typer.Option("--features", help="What the model's backbone gives, in place of z.")
]
Parts = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images a file: z-00000-of-00020.npy and so on. Any number of processes share them.",
        show_default="one file",
    ),
]
Samples = Annotated[
    int,
    typer.Option(
        min=0, max=MOST_DRAWS, help="K draws from each posterior, [N, K, latent_dim].",
        show_default="none",
    ),
]  # fmt: skip


def encode(
    images: ImagesArgument,
    out: Out,
    model: ModelOption = None,
    features: Features = False,
    samples: Samples = 0,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    parts: Parts = None,
    batch_size: AheadOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the embedding of every image: its posterior in the latent space of a model.

    \b
    paradise encode photos/ --out z.npy                    means of z, float32
    paradise encode photos/ --out a.npz --model runs/mine  with log-variances
    paradise encode 'photos/**/*.jpg' --out b.npy          a pattern, quoted
    paradise encode photos/ --out t.parquet                a table, a row an image
    paradise encode photos/ --out f.npy --features         what the head sees
    paradise encode pixels.npy --out c.npy                 an array of images
    paradise encode digits:train --out d.npy --samples 10  ten draws of each
    paradise encode photos/ --out z.npy --parts 1000       in files of 1,000

    z.index.csv beside the output says which row is which image. Order is sorted by path and the
    bytes are the same on every run. Files that cannot be read are skipped and listed, and the exit
    code is then 1.
    """
    loaded = load_and_say(model, images, device, "encode")

    done = write_embeddings(
        loaded, images, out,
        features=features, samples=samples, seed=seed, parts=parts, ahead=batch_size,
        overwrite=overwrite,
    )  # fmt: skip
    _report(done, loaded, as_json, "index" if parts is None else "manifest")


def write_embeddings(
    loaded: "LoadedModel",
    images: Sequence[str],
    out: Path,
    *,
    features: bool = False,
    samples: int = 0,
    seed: int = 0,
    parts: int | None = None,
    ahead: int | None = None,
    overwrite: bool = False,
    remedy: str = REMEDY,
) -> "Encoded":
    """Write the embeddings of images and their index, with a bar on stderr, as `encode_to_file`."""
    # Here, not above, as in every command: --help must not wait for torch.
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.inference.encoding import encode_to_file, index_path, sharing
    from paradise_cli.inference.parts import encode_in_parts

    _refuse_itself(out, [str(loaded.source), *images])
    source = loaded.open(in_order(images))
    # Without draws the seed decides nothing.
    drawn = {"samples": samples, "seed": seed} if samples else {}
    of = {"features": True} if features else {}
    origin = origin_of("encode", loaded, images) | drawn | of
    asked: dict[str, Any] = {"features": features, "samples": samples, "seed": seed, "ahead": ahead}
    if parts is not None:
        kept = "every part that was written is kept, and the same command goes on from there"
        with goes_on(kept), progress_bar(len(source.ids), "encoding") as advance:
            return encode_in_parts(
                loaded, source, out, origin, size=parts, overwrite=overwrite,
                progress=advance, say=note, **asked,
            )  # fmt: skip
    index, rows = index_path(out), _rows(source, origin)
    # That of the same command and of no other output may list what its images are now.
    own = (origin_at(index) or {}).get("images") == rows["images"] and sharing(out) is None
    with (
        replacing(out, origin, overwrite=overwrite, remedy=remedy),
        replacing(index, rows, overwrite=overwrite or own, remedy=remedy),
        progress_bar(len(source.ids), "encoding") as advance,
    ):
        before = index.read_bytes() if index.is_file() else None
        done = encode_to_file(loaded, source, out, overwrite=overwrite, progress=advance, **asked)
    if (other := sharing(out)) and before not in (None, index.read_bytes()):
        note(f"warning: {index.name} is no longer that of {other}: encode it anew")
    return done


def _rows(source: "ImageSource", origin: dict[str, Any]) -> dict[str, Any]:
    """What decides an index, that of z.npy and of z.npz, whatever the model and the draws."""
    number = counted(len(source.ids), "image")
    return {"images": origin["images"], "listing": f"{number}, {source.listing[:SHOWN_DIGITS]}"}


def _refuse_itself(out: Path, read: Sequence[str]) -> None:
    """Raise UsageError where the output is the model, or the array that is encoded."""
    if os.path.realpath(out) in map(os.path.realpath, read):
        raise UsageError(f"--out {out} is read to make it: choose another place")


def _report(done: "Encoded", loaded: "LoadedModel", as_json: bool, listed: str) -> None:
    """What was written; last the unreadable files, which end the command."""
    skipped = [{"path": path, "error": reason} for path, reason in done.skipped]
    if as_json:
        print_json(
            {
                "out": str(done.out),
                listed: str(done.index),
                "model": str(loaded.source),
                "dimensions": done.dimensions,
                "images": done.images,
                "rows": done.rows,
                "skipped": skipped,
            }
        )
    size = f"{counted(done.rows, 'row')} of {counted(done.dimensions, 'dimension')}"
    note(f"{done.out}: {size}; {listed}: {done.index}")
    report_skipped(done.skipped, done.images, done.index)
