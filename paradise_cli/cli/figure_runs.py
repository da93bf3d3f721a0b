"""`paradise figure curves | plane`: figures of trainings, and of several models at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paradise_cli.cli.attack_options import Data, Split
from paradise_cli.cli.figure_latents import (
    Models,
    load_models,
    names_of,
    open_same_images,
    origin_of,
)
from paradise_cli.cli.figure_output import Picture, beside, picture_at, tell
from paradise_cli.cli.images import data_of
from paradise_cli.cli.options import (
    DeviceOption,
    JsonOption,
    OverridesOption,
    OverwriteOption,
    SeedOption,
)
from paradise_cli.cli.output import note
from paradise_cli.cli.tables import print_sections
from paradise_cli.core.errors import UsageError
from paradise_cli.core.units import significant

if TYPE_CHECKING:
    from paradise_cli.reproduction.plane import Plane
    from paradise_cli.training.run_folder import RunFolder

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of trainings.")]


def curves(
    runs: Runs,
    out: Picture = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Distortion and matching over epochs (Figure 4).

    \b
    paradise figure curves runs/standard runs/matched

    Matching is drawn 1,000 times as large. Of a training that goes on, the epochs so far.
    """
    from paradise_cli.core.results import place
    from paradise_cli.reproduction.curves import MOST, draw_curves
    from paradise_cli.reproduction.curves import curves as read

    if len(runs) > MOST:
        raise UsageError(f"{len(runs)} runs: at most {MOST} can be told apart in one picture")
    folders = {str(path): _run_at(path) for path in runs}
    picture = picture_at(out, "curves", [path.name for path in runs])
    found = read(folders)
    # A training that goes on has more to show by the next time.
    epochs = [len(each) for each in found.epochs.values()]
    origin = {"command": "figure curves", "runs": [place(name) for name in folders],
              "epochs": epochs}  # fmt: skip
    with beside(picture, ".csv", origin, overwrite=overwrite) as table:
        draw_curves(found, picture, "In training, over epochs")
        found.save(table)
    tell(found.to_json(), picture, table, as_json)


def _run_at(path: Path) -> "RunFolder":
    from paradise_cli.training.run_folder import RunFolder

    run = RunFolder(path)
    if not run.recipe.is_file():
        raise UsageError(f"{path} is no run folder: name what `paradise train` wrote")
    return run


def plane(
    models: Models,
    data: Data = None,
    split: Split = None,
    overrides: OverridesOption = None,
    out: Picture = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rate and distortion of several models.

    \b
    paradise figure plane runs/dvib runs/beta-vae runs/paradise

    With intervals on both axes, all by the same estimates, whatever rate they were trained with:
    methods are compared at equal measured rate, not at equal alpha.
    """
    loaded = load_models(models, device)
    names = names_of(loaded)
    picture = picture_at(out, "plane", names)
    opened = open_same_images(loaded, picture, data, split, overrides or ())
    given = {**data_of(data, split, overrides or ()), "seed": seed}
    with beside(picture, ".csv", origin_of("plane", loaded, given), overwrite=overwrite) as table:
        from paradise_cli.cli.progress import progress_bar
        from paradise_cli.evaluation.evaluate import measure_loaded
        from paradise_cli.figures.canvas import numbered
        from paradise_cli.reproduction.plane import draw_plane, plane_of

        measured = [
            measure_loaded(model, images, seed=seed, draws=1, bar=progress_bar).evaluation
            for model, images in zip(loaded, opened, strict=True)
        ]
        found = plane_of(list(zip(numbered(names), measured, strict=True)))
        title = f"{opened[0].label}, n = {measured[0].n:,}"
        draw_plane(found, picture, title)
        found.save(table)
    for name in found.without:
        note(f"note: {name} is deterministic: it has no rate, and no place")
    tell(found.to_json(), picture, table, as_json, lambda: _print_plane(found, title))


def _print_plane(found: "Plane", title: str) -> None:
    sections = [
        [
            (f"{each.model}: distortion", significant(each.distortion),
             f"{significant(each.distortion_low)} to {significant(each.distortion_high)}"),
            ("rate I(X;Z), nats", significant(each.rate),
             f"{significant(each.rate_low)} to {significant(each.rate_high)}"),
        ]
        for each in found.places
    ]  # fmt: skip
    print_sections(f"{title}, {found.unit}", ("model", "value", "95% interval"), sections)
