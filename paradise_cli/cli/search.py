"""`paradise search`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paradise_cli.cli.encode import write_embeddings
from paradise_cli.cli.images import AheadOption, ModelOption, load_and_say, model_of, report_skipped
from paradise_cli.cli.options import DeviceOption, JsonOption, OverwriteOption, written
from paradise_cli.cli.output import note
from paradise_cli.core.errors import UsageError
from paradise_cli.core.results import refuse_among

if TYPE_CHECKING:
    from paradise_cli.cli.search_output import Table
    from paradise_cli.inference.loading import LoadedModel
    from paradise_cli.inference.posterior_index import PosteriorIndex

Distance = Literal["overlap", "wasserstein", "expected_squared"]

FolderArgument = Annotated[str, typer.Argument(metavar="FOLDER", help="A folder of images.")]
QueriesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[QUERY]...", help="Image files, in the folder or elsewhere."),
]
IndexOption = Annotated[
    Path,
    typer.Option(
        "--index", "-i", callback=written(".npz", chooses=True),
        help="The posteriors of the folder, as z.npz; made where there is none.",
    ),
]  # fmt: skip
DuplicatesOption = Annotated[
    bool, typer.Option("--duplicates", help="Find near-duplicates within the folder instead.")
]
OverlapOption = Annotated[
    float | None,
    typer.Option(
        min=1e-12, max=1.0, help="With --duplicates: of a pair at least.",
        show_default="as 98.5% of 200 copies that are made to try it",
    ),
]  # fmt: skip
DistanceOption = Annotated[
    Distance | None,
    typer.Option(
        help="Between two posteriors.",
        show_default="overlap, or wasserstein where posteriors have no width",
    ),
]
TopOption = Annotated[int, typer.Option(min=1, max=1000, help="Neighbours of each query.")]
ReindexOption = Annotated[bool, typer.Option("--reindex", help="Make the index anew.")]
PictureOption = Annotated[
    Path | None,
    typer.Option(callback=written(".png"), help="Also draw a contact sheet, a .png file."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", callback=written(".csv", ".json", chooses=True),
        help="Also write the table: a .csv or .json file.",
    ),
]  # fmt: skip


def search(
    folder: FolderArgument,
    index: IndexOption,
    queries: QueriesArgument = None,
    duplicates: DuplicatesOption = False,
    top: TopOption = 5,
    distance: DistanceOption = None,
    overlap: OverlapOption = None,
    picture: PictureOption = None,
    out: OutOption = None,
    model: ModelOption = None,
    batch_size: AheadOption = None,
    device: DeviceOption = "auto",
    reindex: ReindexOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the images of a folder that are most like others, or near-duplicates among them.

    \b
    paradise search photos/ cat.jpg --index photos.npz        the five nearest
    paradise search photos/ a.jpg b.jpg --index photos.npz --picture near.png
    paradise search photos/ --index photos.npz --duplicates --picture groups.png
    paradise search photos/ --index photos.npz --duplicates --out pairs.csv

    The index holds the posterior of each image. It is made once, as by paradise encode, and is
    refused where images have changed since or --model names another; --reindex makes it anew.
    Near-duplicates overlap as an image and its copies do: see the recipe near_duplicates.
    """
    wanted = list(dict.fromkeys(queries or []))
    _check(folder, wanted, duplicates, distance, overlap)
    if picture is not None:
        refuse_among(picture, [folder], "--picture")
    opened, loaded = _opened(folder, index, model, batch_size, device, reindex)

    from paradise_cli.cli.search_output import deliver_table

    if duplicates:
        table = _duplicates(opened, loaded, model, overlap, device)
    else:
        table = _neighbours(opened, loaded, model, wanted, distance, top, device)
    asked = None if duplicates else top
    deliver_table(table, out, picture, top=asked, as_json=as_json, overwrite=overwrite)
    report_skipped(opened.skipped, len(opened.ids) + len(opened.skipped), None)


def _check(
    folder: str,
    queries: Sequence[Path],
    duplicates: bool,
    distance: str | None,
    overlap: float | None,
) -> None:
    """Raise UsageError for what does not go together, before torch is loaded."""
    from paradise_cli.core.inputs import require_files

    if not Path(folder).expanduser().is_dir():
        raise UsageError(f"{folder}: no such folder; name the folder of images that is searched")
    if duplicates and (queries or distance):
        other = f"the query {queries[0]}" if queries else "--distance"
        raise UsageError(
            f"--duplicates compares the images of {folder} by their overlap: leave out {other}"
        )
    if not duplicates and not queries:
        raise UsageError("no query: name image files to search for, or say --duplicates")
    if overlap is not None and not duplicates:
        raise UsageError("--overlap belongs to --duplicates: leave it out")
    require_files(*queries)
    for query in queries:
        if query.suffix in (".npy", ".npz", ".tar"):
            raise UsageError(f"{query}: no array and no tar file is a query; name image files")


def _opened(
    folder: str, path: Path, model: str | None, ahead: int | None, device: str, reindex: bool
) -> "tuple[PosteriorIndex, LoadedModel | None]":
    """The index of a folder, checked, or made; and the model, where it was needed for that."""
    from paradise_cli.data import ids_and_shards

    where = Path(folder).expanduser()
    images, _ = ids_and_shards(where)
    if not images:
        raise UsageError(
            f"{folder}: search reads image files, no tar files; unpack those in it, and name the"
            " folder of their images"
        )
    own = _own_model(path, None if reindex else model)
    loaded = None
    if reindex or not path.exists():
        # Made anew by the model that it had, unless another is named.
        loaded = load_and_say(model or own, [folder], device, "encode")
        done = write_embeddings(
            loaded, [folder], path, ahead=ahead, overwrite=reindex,
            remedy="choose another --index, or add --reindex",
        )  # fmt: skip
        note(f"{path}: the posteriors of {done.rows:,} images, by {loaded.source}")

    from paradise_cli.inference.posterior_index import of_folder, read_index

    opened = read_index(path)
    if loaded is None:
        opened = of_folder(opened, where, images)
        if model is not None:
            loaded = _loaded(opened, None, model, device)
    return opened, loaded


def _own_model(path: Path, model: str | None) -> str | None:
    """The model that an index says it was made by; UsageError where another one is named."""
    from paradise_cli.core.results import origin_at, place
    from paradise_cli.inference.find_model import find_model

    own: Any = (origin_at(path) or {}).get("model")
    if model is not None and own is not None:
        named = find_model(model)
        if place(str(named)) != own:
            raise UsageError(
                f"{path} was made by the model {own}, not by {named}: leave out --model, make the"
                " index anew by --reindex, or name another --index"
            )
    return own if isinstance(own, str) else None


def _loaded(
    index: "PosteriorIndex", loaded: "LoadedModel | None", model: str | None, device: str
) -> "LoadedModel":
    """The model of an index; UsageError where it is unknown, or has other weights by now."""
    if loaded is not None:
        return loaded
    name = model or _own_model(index.path, None)
    if name is None:
        raise UsageError(
            f"nothing says which model {index.path} was made by (it was copied here, or made by"
            " another program): name it by --model"
        )

    from paradise_cli.core.results import origin_at
    from paradise_cli.inference.loading import load

    found = load(name, device)
    weights = (origin_at(index.path) or {}).get("weights")
    # A run that was trained again has other weights in the same place.
    if weights not in (None, model_of(found)["weights"]):
        raise UsageError(
            f"{index.path} was made by other weights than {found.source} holds now: make the index"
            " anew by --reindex, or name another --index"
        )
    return found


def _neighbours(
    index: "PosteriorIndex",
    loaded: "LoadedModel | None",
    model: str | None,
    queries: Sequence[Path],
    distance: str | None,
    top: int,
    device: str,
) -> "Table":
    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.cli.search_output import neighbour_table
    from paradise_cli.inference.search import neighbours, require_widths

    if distance is None:
        distance = "overlap" if index.stochastic else "wasserstein"
    if distance == "overlap":
        require_widths(index, "--distance wasserstein, or ")
    loaded = _loaded(index, loaded, model, device)
    with progress_bar(len(queries), "searching") as advance:
        found = neighbours(loaded, index, queries, distance, top, advance)
    return neighbour_table(index, found, distance)


def _duplicates(
    index: "PosteriorIndex",
    loaded: "LoadedModel | None",
    model: str | None,
    overlap: float | None,
    device: str,
) -> "Table":
    import math
    from functools import partial

    from paradise_cli.cli.progress import progress_bar
    from paradise_cli.cli.search_output import duplicate_table, say_limit
    from paradise_cli.inference.near_duplicates import COPIES, confirmed, limit_by_copies
    from paradise_cli.inference.search import duplicates, require_widths

    require_widths(index)
    if overlap is None:
        loaded = _loaded(index, loaded, model, device)
        with progress_bar(COPIES, "trying copies") as advance:
            limit = limit_by_copies(loaded, index, advance)
        say_limit(limit)
        nats, confirm = limit.nats, partial(confirmed, loaded, index, angle=limit.angle)
    else:
        nats, confirm = -math.log(overlap), None
    with progress_bar(len(index.ids), "comparing") as advance:
        found = duplicates(index, nats, advance, confirm)
    return duplicate_table(index, found, math.exp(-nats))
