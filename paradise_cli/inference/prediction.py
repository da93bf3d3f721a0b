"""Class and probability of any number of images."""

import csv
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paradise_cli.core.results import PREDICTIONS, check_suffix
from paradise_cli.core.storage import publish, write_json
from paradise_cli.inference.image_sources import ImageSource
from paradise_cli.inference.loading import Advance, LoadedModel

COLUMNS = ("path", "head", "rank", "class", "probability", "error")


@dataclass(frozen=True)
class ImagePrediction:
    """One image: by head its most probable classes, best first; or why it cannot be read."""

    path: str
    heads: dict[str, list[tuple[str, float]]]
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The prediction as JSON values."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "heads": {
                head: [{"class": name, "probability": round(p, 6)} for name, p in best]
                for head, best in self.heads.items()
            },
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The prediction as rows of text under `COLUMNS`."""
        if self.error is not None:
            return [(self.path, "", "", "", "", self.error)]
        return [
            (self.path, head, str(rank), name, f"{p:.6f}", "")
            for head, best in self.heads.items()
            for rank, (name, p) in enumerate(best, 1)
        ]


def predict_each(
    model: LoadedModel,
    source: ImageSource,
    *,
    top: int = 1,
    ahead: int | None = None,
    progress: Advance | None = None,
) -> Generator[ImagePrediction, None, None]:
    """The `top` classes of every image in order. Close it where it is left early.

    Raises ParadiseError for a model without classifier.
    """
    classes = model.classes()
    with closing(
        model.stream(source, model.classifier(), ahead=ahead, progress=progress)
    ) as blocks:
        for block in blocks:
            # Readable and unreadable rows of a block, put back into one order.
            found = {
                row: ImagePrediction(source.ids[row], {}, error.reason)
                for row, error in block.skipped
            }
            for i, row in enumerate(block.rows):
                heads = {head: _best(block.values[head][i], classes[head], top) for head in classes}
                found[row] = ImagePrediction(source.ids[row], heads)
            yield from (found[row] for row in sorted(found))


def _best(probabilities: Any, classes: tuple[str, ...], top: int) -> list[tuple[str, float]]:
    # Stable: of equally probable classes the first, on every machine.
    order = (-probabilities).argsort(kind="stable")[:top]
    return [(classes[i], float(probabilities[i])) for i in order.tolist()]


def write_predictions(
    found: Iterable[ImagePrediction], out: Path
) -> tuple[int, list[ImagePrediction]]:
    """Write a `.csv` (a row for each image, head and rank) or a `.json`.

    Returns how many images there were, and those that cannot be read. Raises UsageError for another
    suffix, ParadiseError where `out` cannot be written.
    """
    check_suffix(out, PREDICTIONS, chooses=True)
    count, skipped = 0, []
    if out.suffix == ".json":
        everything = list(found)  # one JSON list: only .csv grows without memory
        write_json(out, [image.to_json() for image in everything])
        return len(everything), [image for image in everything if image.error is not None]
    with publish(out) as temporary:
        # File names that are not UTF-8 keep their bytes.
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for image in found:
                table.writerows(image.rows())
                count += 1
                skipped += [image] if image.error is not None else []
    return count, skipped
