"""`paradise figure surface | gradients | orthogonality | targets`: figures of classifiers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paradise_cli.cli.attack_options import Classifier, Data, Head, Seed, Split
from paradise_cli.cli.attack_output import attack_progress
from paradise_cli.cli.figure_output import (
    Asked,
    Opened,
    Picture,
    class_names,
    losses_of,
    mean_words,
    name_of,
    on_examples,
    save_arrays,
    saying_whose,
    tell,
    title_of,
)
from paradise_cli.cli.options import DeviceOption, JsonOption, OverridesOption, OverwriteOption
from paradise_cli.cli.output import note
from paradise_cli.cli.tables import Row, print_sections
from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.ranges import number
from paradise_cli.core.units import counted

if TYPE_CHECKING:
    from paradise_cli.reproduction.input_gradients import Gradients, Orthogonality
    from paradise_cli.reproduction.surface import Surface
    from paradise_cli.reproduction.targets import Targets
    from paradise_cli.robustness.examples import Examples

MOST_SHOWN = 8  # images side by side
MOST_STEPS = 10_000
SURFACE_N, TARGETS_N, ORTHOGONAL_N = 200, 50, 500  # images

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...",
        help="Run folders, weights files, packaged names, or package.module:function for"
        " classifiers of your own.",
    ),
]
Radius = Annotated[str, typer.Option(help="How far the plane goes, of pixels in [0, 1].")]
Ball = Annotated[str, typer.Option(help="Largest change of a pixel.")]
Steps = Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Of the attack.")]
Shown = Annotated[int, typer.Option(min=1, max=MOST_SHOWN, help="Images in the picture, at most.")]
Count = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Images, drawn at random.", show_default="a few hundred"),
]


def surface(
    model: Classifier,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    eps: Radius = "8/255",
    n: Count = None,
    shown: Shown = 3,
    out: Picture = None,
    head: Head = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Loss and class around images (Figure 5).

    \b
    paradise figure surface runs/mine --eps 8/255
    paradise figure surface my_module:load --data images.npz --out s.png

    One axis is the sign of the gradient, the other random signs that are orthogonal to it. Of a
    masked gradient the loss wavers along random signs, or rises far from its tangent.
    """
    reach = _radius(eps)
    asked = Asked([model], data, split, overrides or (), n, SURFACE_N, head, device, out, overwrite)
    with on_examples("surface", asked, eps=reach, seed=seed, shown=shown) as opened:
        from paradise_cli.reproduction.surface import surface as computed
        from paradise_cli.reproduction.surface_picture import draw_surface

        examples = opened.examples
        (loss,) = losses_of(opened.targets, [model], examples, device).values()
        found = computed(loss, examples.images, examples.labels, reach, shown, seed)
        title = title_of(opened, f"eps = {eps}")
        names = class_names(examples, found.labels.tolist())
        if len(names) < min(shown, found.n):
            note("note: only images that the classifier names rightly are drawn")
        draw_surface(found, names, opened.picture, title, eps)
        save_arrays(opened.arrays, found.arrays())
    tell(
        found.to_json(),
        *opened.places,
        as_json,
        lambda: _print_surface(found, title),
    )


def _radius(eps: str) -> float:
    reach = number(eps, "--eps")
    if not 0 < reach <= 1:
        raise UsageError(f"--eps {eps}: above 0 and at most 1, as pixels lie in [0, 1]")
    return reach


def _print_surface(found: "Surface", title: str) -> None:
    value, interval = mean_words(found.wavering, found.n, "nats")
    bent = "flat: no rise" if found.linearity is None else f"{found.linearity:.1%}"
    print_sections(
        title,
        ("around each image", "value", "95% interval"),
        [
            [
                ("deviation of the loss along random signs, mean", value, interval),
                ("distance from the tangent, of the rise, median", bent, ""),
            ]
        ],
    )


def targets(
    model: Classifier,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    eps: Ball = "16/255",
    steps: Steps = 200,
    n: Count = None,
    shown: Shown = 6,
    out: Picture = None,
    head: Head = None,
    seed: Seed = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Images led to a chosen class (Figure 6).

    \b
    paradise figure targets runs/mine --eps 16/255

    PGD from a random start leads each image to a wrong class drawn for it, but for images that the
    model calls that class already: they count neither as led nor as not. `paradise attack --suite
    targeted` counts alike, and audits what it finds.
    """
    reach = _radius(eps)
    asked = Asked([model], data, split, overrides or (), n, TARGETS_N, head, device, out, overwrite)
    with on_examples("targets", asked, eps=reach, steps=steps, seed=seed, shown=shown) as opened:
        from paradise_cli.reproduction.targets import targeted
        from paradise_cli.robustness.classifiers import device_for

        target, examples = opened.targets[0], opened.examples
        with saying_whose(target), attack_progress() as pulse:
            found = targeted(
                target.function, examples.images, examples.labels, device_for(target, device),
                eps=reach, steps=steps, shown=shown, seed=seed, pulse=pulse,
            )  # fmt: skip
        title = title_of(opened, f"eps = {eps}")
        _draw_targets(found, examples, opened.picture, title)
        save_arrays(opened.arrays, found.arrays())
    tell(
        found.to_json(),
        *opened.places,
        as_json,
        lambda: _print_targets(found, title),
    )


def _draw_targets(found: "Targets", examples: "Examples", picture: Path, title: str) -> None:
    import torch

    from paradise_cli.figures.grid import draw_grid

    if not found.rows:
        raise ParadiseError(
            f"no image was led to its target within eps = {found.eps:.3g}: there is nothing to"
            " draw; a larger --eps or more --steps lead further"
        )
    change = found.attacked - found.images
    times = 0.5 / max(float(change.abs().max()), 1e-6)
    every = torch.stack([found.images, found.attacked, 0.5 + times * change], 1)
    true, aimed = (class_names(examples, each.tolist()) for each in (found.labels, found.targets))
    names = [f"{one}\nas {other}" for one, other in zip(true, aimed, strict=True)]
    draw_grid(every, ["image", "attacked", f"change x {times:.3g}"], picture, title, names=names)


def _print_targets(found: "Targets", title: str) -> None:
    share = found.reached
    led = f"led to their target, of {found.n:,}"
    rows: list[Row] = [(led, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}")]
    if found.already:
        rows.append(("called it already: left out", f"{found.already:,}", ""))
    print_sections(title, (f"PGD of {found.steps} steps", "share", "95% interval"), [rows])


def gradients(
    models: Models,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    shown: Shown = 6,
    out: Picture = None,
    head: Head = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Gradients in the pixels (Figure 7).

    \b
    paradise figure gradients runs/plain runs/robust
    paradise figure gradients runs/mine my_module:load --data images.npz

    Each is cut to its mean and three deviations either way. Those of robust models show what is in
    the image, those of others look like noise.
    """
    asked = Asked(models, data, split, overrides or (), None, shown, head, device, out, overwrite)
    with on_examples("gradients", asked) as opened:
        from paradise_cli.reproduction.gradient_pictures import draw_gradients

        found = _gradients(opened, device)
        examples = opened.examples
        names = class_names(examples, examples.labels.tolist())
        title = f"Gradients in the pixels: {examples.label}"
        draw_gradients(found, names, opened.picture, title)
        save_arrays(opened.arrays, found.arrays())
    numbers = {"models": list(found.by_model), "n": len(examples.images)}
    tell(numbers, *opened.places, as_json)


def _gradients(opened: "Opened", device: str) -> "Gradients":
    from paradise_cli.figures.canvas import numbered
    from paradise_cli.reproduction.input_gradients import gradients as computed

    targets, examples = opened.targets, opened.examples
    losses = losses_of(targets, numbered([name_of(each) for each in targets]), examples, device)
    return computed(losses, examples.images, examples.labels)


def orthogonality(
    models: Models,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    n: Count = None,
    out: Picture = None,
    head: Head = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Angles between models' gradients.

    \b
    paradise figure orthogonality runs/seed0 runs/seed1 runs/robust

    At the same images. Where gradients are orthogonal, as directions at random are, an attack on
    one model says little of another one.
    """
    if len(models) < 2:
        raise UsageError("orthogonality compares models: name two or more")
    asked = Asked(
        models, data, split, overrides or (), n, ORTHOGONAL_N, head, device, out, overwrite
    )
    with on_examples("orthogonality", asked) as opened:
        from paradise_cli.reproduction.gradient_pictures import draw_orthogonality
        from paradise_cli.reproduction.input_gradients import orthogonality as computed

        found = computed(_gradients(opened, device))
        n_words = counted(len(opened.examples.images), "image")
        title = f"Angles between gradients: {opened.examples.label}, {n_words}"
        draw_orthogonality(found, opened.picture, title)
        save_arrays(opened.arrays, found.arrays())
    tell(
        found.to_json(),
        *opened.places,
        as_json,
        lambda: _print_orthogonality(found, title),
    )


def _print_orthogonality(found: "Orthogonality", title: str) -> None:
    sections: list[list[Row]] = []
    for each in found.pairs:
        cosine, interval = mean_words(each.cosine, each.n)
        size, size_interval = mean_words(each.size, each.n)
        signs, signs_interval = mean_words(each.signs, each.n)
        sections.append(
            [
                (f"{' and '.join(each.models)}: cosine", cosine, interval),
                ("deviation over images", f"{each.deviation:.3g}", f"n = {each.n:,}"),
                ("|cosine|", size, size_interval),
                ("signs that agree", signs, signs_interval),
            ]
        )
    chance = f"random directions: deviation {found.random_deviation:.3g}"
    sections.append([(chance, f"|cosine| {found.random_size:.3g}", "signs 0.5")])
    print_sections(title, ("gradients of", "value", "95% interval"), sections)
