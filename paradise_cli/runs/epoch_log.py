"""Where the epochs of a training are written besides `metrics.jsonl`: TensorBoard, if asked for."""

from pathlib import Path
from typing import Any, Protocol

from paradise_cli.core.errors import UsageError


class EpochLog(Protocol):
    """What takes the records of epochs, each as `metrics.jsonl` has it."""

    def epoch(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def require_tensorboard() -> None:
    """Raise UsageError, before any work, where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "train.log: tensorboard needs the package tensorboard: run"
            " `pip install 'paradise-cli[tensorboard]'`, or leave train.log out"
        ) from error


class TensorBoardLog:
    """Each epoch's numbers as TensorBoard scalars over steps, in `folder`."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed training takes the steps after `step` again: their old points are hidden.
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def epoch(self, record: dict[str, Any]) -> None:
        """Write one epoch: what was trained on, validated and probed, and the learning rate."""
        values = {"lr": record["lr"]}
        for part in ("train", "validation", "probe"):
            values |= {f"{part}/{name}": value for name, value in record.get(part, {}).items()}
        for name, value in values.items():
            self._writer.add_scalar(name, value, record["step"])
        # Epochs may take an hour, and TensorBoard reads what is on the disk.
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
