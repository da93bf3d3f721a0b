"""Write a model in a format of others, unless the file answers otherwise than the model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import publish
from paradise_cli.export.formats import FORMATS, checked_by
from paradise_cli.export.network import about, largest_differences, network_of, trial_images
from paradise_cli.inference.loading import LoadedModel

TOLERANCE = 1e-5
"""How far an answer of a file may be from the model's, in nats of a log and in units of z; of
answers above 1 as a share of them.
"""


@dataclass(frozen=True)
class Exported:
    """An exported file: its size, and how far its answers are from the model's at most.

    `differences` are by name of what it gives, and None, as `checked_by`, where nothing is
    installed that could read the file.
    """

    path: Path
    bytes: int
    outputs: tuple[str, ...]
    differences: dict[str, float] | None
    checked_by: str | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {"path": str(self.path)}


def export(loaded: LoadedModel, path: Path, format: str) -> Exported:
    """Write a model to one file for batches of any size; the file appears once it is checked.

    Raises ParadiseError where what is needed is not installed, and where the file's answers differ
    from the model's by more than TOLERANCE.
    """
    chosen = FORMATS[format]
    network = network_of(loaded)
    shape = loaded.info.shape
    with publish(path) as temporary:
        # Of two: a batch of one would be taken for the only size there is.
        chosen.write(network, trial_images(shape, 2), about(loaded, network), temporary)
        run = chosen.run(temporary)
        differences = None if run is None else largest_differences(network, run, shape)
        if differences is not None and max(differences.values()) > TOLERANCE:
            worst = max(differences, key=differences.__getitem__)
            raise ParadiseError(
                f"{loaded.source}: {checked_by(chosen)} computes another {worst} from the {format}"
                f" file than the model, by up to {differences[worst]:.2g}, where {TOLERANCE:g} is"
                " allowed; nothing was written"
            )
        size = temporary.stat().st_size
    checker = None if run is None else checked_by(chosen)
    return Exported(path, size, network.names, differences, checker)
