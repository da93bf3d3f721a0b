"""`paradise figure ellipses | serial`: figures of encoders and their decoders."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.attack_options import Data, Seed, Split
from paradise_cli.cli.figure_output import (
    Picture,
    beside,
    mean_words,
    other_images,
    picture_at,
    save_arrays,
    tell,
)
from paradise_cli.cli.images import data_of, model_of, open_and_say, refuse_among_read
from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption, OverwriteOption
from paradise_cli.cli.tables import Row, print_sections
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from torch import Tensor

    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.inference.loading import LoadedModel
    from paradise_cli.information.gaussian import Gaussian
    from paradise_cli.reproduction.latent_walks import Serial

MOST_ROWS = 16
MOST_PLANES = 6

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A run folder, a weights file, or a name from the zoo."),
]
Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Run folders, weights files, or names from the zoo."),
]
Rows = Annotated[int, typer.Option("--shown", min=1, max=MOST_ROWS, help="Rows of the picture.")]
Decoder = Annotated[str | None, typer.Option("--head", help="Which of several decoders.")]


def ellipses(
    models: Models,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    out: Picture = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Posteriors in two latents, as ellipses (Figure 1).

    \b
    paradise figure ellipses digits-2d
    paradise figure ellipses runs/alpha-0.01 runs/alpha-0.1 runs/alpha-1

    Each ellipse holds 95% of a posterior. The first 2,000 images, coloured by class; several models
    side by side.
    """
    if len(models) > MOST_PLANES:
        raise UsageError(f"{len(models)} models: at most {MOST_PLANES} fit into one picture")
    loaded = load_models(models, device)
    picture = picture_at(out, "ellipses", names_of(loaded))
    opened = open_same_images(loaded, picture, data, split, overrides or ())
    labels = opened[0].split.labels
    given = data_of(data, split, overrides or ())
    origin = origin_of("ellipses", loaded, given)
    with beside(picture, ".npz", origin, overwrite=overwrite) as arrays:
        from paradise_cli.figures.canvas import numbered
        from paradise_cli.figures.posterior import MOST, draw_side_by_side

        found = [posteriors_of(model, each) for model, each in zip(loaded, opened, strict=True)]
        titles = [
            f"{name} on {opened[0].label}, n = {min(len(labels), MOST):,}"
            for name in numbered(names_of(loaded))
        ]
        draw_side_by_side(list(zip(found, titles, strict=True)), labels, loaded[0].info, picture)
        save_arrays(arrays, _stacked(found, labels))
    numbers = {"models": names_of(loaded), "n": len(labels), "drawn": min(len(labels), MOST)}
    tell(numbers, picture, arrays, as_json)


def serial(
    model: Model,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    rows: Rows = 6,
    out: Picture = None,
    head: Decoder = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Samples, reconstructed four times (Figure 2).

    \b
    paradise figure serial runs/celeba
    paradise figure serial fashion-mnist-2d-unsupervised --shown 8

    z is drawn from the Gaussian with the mean and covariance of the aggregate posterior of images
    that the model has not seen. What the model takes for likely changes little on its way round.
    """
    (loaded,) = load_models([model], device)
    from paradise_cli.reproduction.encoder_maps import decoder_of, encoder_of

    decode = decoder_of(loaded, head)
    picture = picture_at(out, "serial", names_of([loaded]))
    opened = open_images(loaded, picture, data, split, overrides or ())
    given = {**data_of(data, split, overrides or ()), "shown": rows,
             "seed": seed, "head": head}  # fmt: skip
    with beside(
        picture, ".npz", origin_of("serial", [loaded], given), overwrite=overwrite
    ) as arrays:
        from paradise_cli.figures.grid import draw_grid
        from paradise_cli.reproduction.latent_walks import RECONSTRUCTIONS
        from paradise_cli.reproduction.latent_walks import serial as walked

        posterior = posteriors_of(loaded, opened)
        found = walked(posterior, encoder_of(loaded), decode, rows, seed)
        title = f"{names_of([loaded])[0]}: a Gaussian fitted to {opened.label}, n = {found.n:,}"
        headings = ["sample", *(f"round {number}" for number in range(1, RECONSTRUCTIONS + 1))]
        draw_grid(found.images, headings, picture, title)
        save_arrays(arrays, found.arrays())
    tell(found.to_json(), picture, arrays, as_json, lambda: _print_serial(found, title))


def _print_serial(found: "Serial", title: str) -> None:
    rows: list[Row] = [
        (f"round {number}", *mean_words(moved, len(found.z)))
        for number, moved in enumerate(found.moved, start=1)
    ]
    columns = ("squared change of a pixel", "mean", "95% interval")
    print_sections(f"{title}, {counted(len(found.z), 'sample')}", columns, [rows])


def load_models(models: Sequence[str], device: str) -> list["LoadedModel"]:
    """The models of these names; a misspelt one is refused before torch is loaded."""
    from paradise_cli.inference.find_model import find_model

    for each in models:
        find_model(each)
    from paradise_cli.inference.loading import load

    return [load(each, device) for each in models]


def names_of(loaded: Sequence["LoadedModel"]) -> list[str]:
    """A short name for each model."""
    from paradise_cli.inference.find_model import short_name

    return [short_name(each.source) for each in loaded]


def open_images(
    loaded: "LoadedModel",
    picture: Any,
    data: str | None,
    split: str | None,
    overrides: Sequence[str],
) -> "EvaluationData":
    """The images of one split, and what should be known of them on stderr."""
    refuse_among_read(picture, loaded, data, overrides)
    return open_and_say(loaded, data, split, overrides)


def open_same_images(
    loaded: Sequence["LoadedModel"],
    picture: Any,
    data: str | None,
    split: str | None,
    overrides: Sequence[str],
) -> list["EvaluationData"]:
    """`open_images` for each model; raises ParadiseError where two of them read other images."""
    opened = []
    for model in loaded:
        try:
            opened.append(open_images(model, picture, data, split, overrides))
        except ParadiseError as error:
            raise type(error)(f"{model.source}: {error}") from error
    first = opened[0]
    for model, other in zip(loaded, opened, strict=True):
        same = list(other.split.ids) == list(first.split.ids)
        if not same or other.label != first.label:
            raise ParadiseError(
                other_images((str(loaded[0].source), first), (str(model.source), other))
            )
    return opened


def posteriors_of(loaded: "LoadedModel", opened: "EvaluationData") -> "Gaussian":
    """The posterior of every image, [N, K], with its progress on stderr."""
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.evaluation.passes import posteriors

    with progress_bar(len(opened.split), "encoding") as advance:
        return posteriors(loaded.model, opened.split, loaded.device, advance)


def origin_of(
    figure: str, loaded: Sequence["LoadedModel"], given: dict[str, Any]
) -> dict[str, Any]:
    """What decides a figure: the models and all that was asked for."""
    return {"command": f"figure {figure}", "models": [model_of(each) for each in loaded], **given}


def _stacked(found: Sequence[Any], labels: "Tensor") -> dict[str, Any]:
    """mu and sigma [M, N, 2] of M models, their covariances [M, N, 2, 2] where one is full, and
    labels [N, T].
    """
    import torch

    from paradise_cli.information.gaussian import FullGaussian

    parts = zip(*(each.marginals() for each in found), strict=True)
    mu, sigma = (torch.stack(part).cpu().numpy() for part in parts)
    arrays = {"mu": mu, "sigma": sigma, "labels": labels.numpy()}
    if any(isinstance(each, FullGaussian) for each in found):
        covariances = [each.covariances() for each in found]
        arrays["covariance"] = torch.stack(covariances).cpu().numpy()
    return arrays
