"""`paradise figure arithmetic`: classes added to latents and taken away."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paradise_cli.cli.attack_options import Data, Split
from paradise_cli.cli.figure_latents import (
    Decoder,
    Model,
    Rows,
    load_models,
    names_of,
    open_images,
    origin_of,
    posteriors_of,
)
from paradise_cli.cli.figure_output import (
    Picture,
    beside,
    mean_words,
    picture_at,
    save_arrays,
    tell,
)
from paradise_cli.cli.images import data_of
from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption, OverwriteOption
from paradise_cli.cli.tables import Row, print_sections
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from torch import Tensor

    from paradise_cli.core.proportions import Proportion
    from paradise_cli.data import Target
    from paradise_cli.evaluation.evaluation_data import EvaluationData
    from paradise_cli.inference.loading import LoadedModel
    from paradise_cli.reproduction.latent_walks import Arithmetic, Latents, Map

Plus = Annotated[str | None, typer.Option(help="The class that is added.", show_default=False)]
Minus = Annotated[
    str | None, typer.Option(help="The class that is taken away.", show_default=False)
]
Attribute = Annotated[
    str | None, typer.Option("--target", help="Which of several targets the classes are of.")
]


def arithmetic(
    model: Model,
    plus: Plus = None,
    minus: Minus = None,
    target: Attribute = None,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    rows: Rows = 6,
    out: Picture = None,
    head: Decoder = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """One class turned into another (Figure 3).

    \b
    paradise figure arithmetic runs/celeba --target Smiling
    paradise figure arithmetic runs/fashion --plus Sandal --minus Sneaker

    The difference of the classes' mean latents is added to an image of --minus, a quarter at a
    time; the last column adds that of a single pair instead. Of a linear edit, encoding the result
    finds the whole difference again, and nothing beside it.
    """
    (loaded,) = load_models([model], device)
    from paradise_cli.reproduction.encoder_maps import decoder_of

    decode = decoder_of(loaded, head)
    column, chosen = _target(loaded, target)
    added, taken = _classes(chosen, plus, minus)
    picture = picture_at(out, "arithmetic", names_of([loaded]))
    opened = open_images(loaded, picture, data, split, overrides or ())
    given = {**data_of(data, split, overrides or ()), "shown": rows,
             "head": head, "target": chosen.name, "plus": added, "minus": taken}  # fmt: skip
    origin = origin_of("arithmetic", [loaded], given)
    with beside(picture, ".npz", origin, overwrite=overwrite) as arrays:
        from paradise_cli.reproduction.latent_walks import arithmetic as computed

        latents = _latents(loaded, opened, column, decode)
        found = computed(latents, _pixels_of(opened), chosen.classes, added, taken, rows)
        title = f"{names_of([loaded])[0]} on {opened.label}: + {found.plus} - {found.minus}"
        _draw_arithmetic(found, picture, title)
        save_arrays(arrays, found.arrays())
    tell(found.to_json(), picture, arrays, as_json, lambda: _print_arithmetic(found, title))


def _latents(
    loaded: "LoadedModel", opened: "EvaluationData", column: int, decode: "Map"
) -> "Latents":
    """The means of all images, with their labels in that column, and the ways to and fro."""
    from paradise_cli.reproduction.encoder_maps import encoder_of, namer_of
    from paradise_cli.reproduction.latent_walks import Latents

    return Latents(
        mu=posteriors_of(loaded, opened).mu.cpu(),
        labels=opened.split.labels[:, column],
        encode=encoder_of(loaded),
        decode=decode,
        name=namer_of(loaded, loaded.info.targets[column].name),
    )


def _draw_arithmetic(found: "Arithmetic", picture: Any, title: str) -> None:
    import torch

    from paradise_cli.figures.grid import draw_grid
    from paradise_cli.reproduction.latent_walks import SHARES

    every = [found.originals[:, None], found.edited, found.by_pair[:, None]]
    headings = ["image", "decoded", *(f"+ {share:g} d" for share in SHARES[1:]), "d of one pair"]
    draw_grid(torch.cat(every, 1), headings, picture, title)


def _print_arithmetic(found: "Arithmetic", title: str) -> None:
    rows: list[Row] = [
        ("found again, of the difference", *mean_words(found.kept, found.n)),
        ("moved beside it, in lengths of it", *mean_words(found.aside, found.n)),
    ]
    named: list[Row] = [
        (f"called {found.plus}, {when}", f"{share.value:.1%}", _interval(share))
        for when, share in zip(("before", "after"), found.named or (), strict=False)
    ]
    n = counted(found.n, "image")
    print_sections(f"{title}, {n}", ("of the latents", "mean", "95% interval"), [rows, named])


def _interval(share: "Proportion") -> str:
    return f"{share.low:.1%} to {share.high:.1%}"


def _pixels_of(opened: "EvaluationData") -> Callable[[Sequence[int]], "Tensor"]:
    """Images of some rows, float32 [n, C, H, W] in [0, 1]."""
    import torch

    from paradise_cli.robustness.examples import pixels_of

    return lambda rows: pixels_of(opened.split, torch.tensor(rows))


def _target(loaded: "LoadedModel", name: str | None) -> tuple[int, "Target"]:
    """The column and the target that classes are taken from."""
    from paradise_cli.core.registry import did_you_mean

    targets = loaded.info.targets
    if not targets:
        raise ParadiseError(
            f"{loaded.info.label} has no classes, and arithmetic needs two: a folder for each"
        )
    names = [each.name for each in targets]
    if name is None and len(targets) > 1:
        raise UsageError(f"name the target, by --target: {', '.join(names)}")
    if name is not None and name not in names:
        hint = did_you_mean(name, names)
        raise UsageError(f"--target {name}: no such target{hint}; there are: {', '.join(names)}")
    column = names.index(name) if name is not None else 0
    return column, targets[column]


def _classes(target: "Target", plus: str | None, minus: str | None) -> tuple[int, int]:
    """The numbers of the class that is added and the one that is taken away."""
    from paradise_cli.core.registry import did_you_mean

    classes = list(target.classes)
    if len(classes) < 2:
        raise ParadiseError(f"{target.name} has the one class {classes[0]}: arithmetic needs two")
    # Of an attribute that is there or not, what is meant needs no words.
    if len(classes) == 2:
        plus, minus = plus or (classes[0] if minus == classes[1] else classes[1]), minus
        minus = minus or (classes[0] if plus == classes[1] else classes[1])
    for option, name in (("--plus", plus), ("--minus", minus)):
        if name is None:
            raise UsageError(f"{option}: name a class of {target.name}: {', '.join(classes)}")
        if name not in classes:
            hint = did_you_mean(name, classes)
            raise UsageError(
                f"{option} {name}: no such class{hint}; there are: {', '.join(classes)}"
            )
    if plus == minus:
        raise UsageError(f"--plus and --minus are both {plus}: name two classes")
    assert plus is not None and minus is not None
    return classes.index(plus), classes.index(minus)
