"""Every packaged model exported in every format, and how far the files' answers are from its own.

    python benchmarks/packaged_models.py --save

A weights file never changes, so this runs once for each: rows whose weights are still the packaged
ones are kept. `tests/test_export.py` asks for a row of every model.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results import FOLDER, save
from timing import machine, options

from paradise_cli.core.storage import file_digest
from paradise_cli.export.export import export
from paradise_cli.export.formats import FORMATS
from paradise_cli.export.network import BATCHES
from paradise_cli.hub.cards import packaged_file, zoo_names
from paradise_cli.inference.loading import load

NAME = "packaged_models"


def before() -> dict[str, dict[str, Any]]:
    """Rows on file by the digest of the weights."""
    path = FOLDER / f"{NAME}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return {row["sha256"]: row for row in rows}


def measured(name: str, path: Path) -> dict[str, Any]:
    """The largest difference of each format over all that it gives."""
    found: dict[str, Any] = {"name": name, "sha256": file_digest(path)}
    found["megabytes"] = path.stat().st_size / 1e6
    for format in FORMATS:
        with TemporaryDirectory() as folder:
            exported = export(load(name), Path(folder) / "file", format)
        assert exported.differences is not None, "the extra of this project installs the readers"
        found[format] = max(exported.differences.values())
    return found


if __name__ == "__main__":
    chosen = options(__doc__)
    machine()
    known, rows = before(), []
    for name in zoo_names():
        path = packaged_file(name)
        if path is not None:
            rows.append(known.get(file_digest(path)) or measured(name, path))
            print(rows[-1], flush=True)
    if chosen.save:
        save(
            NAME,
            what="Packaged models exported: largest difference of mean, log-variance and"
            " log-probabilities between the file's answers and the model's",
            columns={"model": "`{name}`", "MB": "{megabytes:.1f}", "ONNX, by onnxruntime":
                     "{onnx:.1e}", "torch": "{torch:.1e}", "weights": "{sha256:.12}"},
            rows=rows,
            data="images between noise and slow shades",
            n=f"batches of {', '.join(map(str, BATCHES))}",
            note="Of answers above 1 the difference is a share of them.",
        )  # fmt: skip
