"""What a training must remember to go on as if it had never stopped."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import load_tensors, save_tensors

KEPT = 2


@dataclass
class State:
    """Where a training stands: steps done, sums over the running epoch, best validation so far.

    `totals` [terms] sums each logged term over the epoch's steps; `first_bad` [terms] is the first
    step at which a term was not finite, else -1. Both live on the device.
    """

    totals: Tensor
    first_bad: Tensor
    step: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    best_step: int = 0
    terms: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, device: torch.device) -> "State":
        """The state before the first step."""
        return cls(
            torch.zeros(0, dtype=torch.float64, device=device), torch.zeros(0, device=device).long()
        )

    def observe(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms, on the device, without waiting for them."""
        values = torch.stack([value.double() for value in terms.values()])
        if not self.terms:
            self.terms = list(terms)
            self.start_epoch()
        self.totals += values
        fresh_bad = (self.first_bad < 0) & ~values.isfinite()
        self.first_bad.masked_fill_(fresh_bad, self.step)

    def start_epoch(self) -> None:
        """Forget the sums."""
        device = self.totals.device
        self.totals = torch.zeros(len(self.terms), dtype=torch.float64, device=device)
        self.first_bad = torch.full((len(self.terms),), -1, device=device)

    def means(self, steps: int) -> dict[str, float]:
        """Mean of each term over `steps` steps, waiting for the device; raises NonFinite for a bad
        one.
        """
        bad = {t: s for t, s in zip(self.terms, self.first_bad.tolist(), strict=True) if s >= 0}
        if bad:
            raise NonFinite(bad)
        return dict(zip(self.terms, (self.totals / max(steps, 1)).tolist(), strict=True))


class NonFinite(ParadiseError):
    """A term of the loss became infinite or NaN."""

    def __init__(self, first_bad: dict[str, int]) -> None:
        step = min(first_bad.values())
        terms = [term for term, at in first_bad.items() if at == step]
        culprits = [term for term in terms if term not in ("loss", "distortion")] or terms
        super().__init__(
            f"training stopped: {' and '.join(culprits)} not finite at step {step}."
            f" {_cause(culprits)}"
            " The last checkpoint holds the state before it"
        )


def _cause(terms: list[str]) -> str:
    if terms == ["rate"]:
        return (
            "Likely cause: sigma collapsed or grew without bound; raise model.sigma_floor or"
            " lower alpha."
        )
    if "abs_mu" in terms or "weights" in terms:
        return "Likely cause: the weights diverged; lower optim.lr, or set optim.clip."
    return "Likely cause: the learning rate is too high; lower optim.lr, or set optim.clip."


class Checkpoints:
    """The checkpoint files of one run folder: the last two, each complete by itself."""

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        self.folder, self.metadata = folder, metadata

    def save(
        self, state: State, model: nn.Module, objective: nn.Module, optimizer: Optimizer
    ) -> None:
        """Publish `step-N.safetensors`, then drop all but the last two. Raises NonFinite for a bad
        state.
        """
        state.means(1)
        tensors = _prefixed("model", model.state_dict()) | _prefixed(
            "objective", objective.state_dict()
        )
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise NonFinite({"weights": state.step})
        tensors |= {"totals": state.totals, "first_bad": state.first_bad}
        tensors |= _optimizer_tensors(optimizer)
        scalars = {k: v for k, v in asdict(state).items() if k not in ("totals", "first_bad")}
        save_tensors(self._path(state.step), tensors, self.metadata | {"state": scalars})
        for old in self._paths()[:-KEPT]:
            old.unlink(missing_ok=True)

    def restore(self, model: nn.Module, objective: nn.Module, optimizer: Optimizer) -> State | None:
        """Load the newest checkpoint into the three and return its state; None where there is
        none.
        """
        paths = self._paths()
        if not paths:
            return None
        device = next(model.parameters()).device
        tensors, metadata = load_tensors(paths[-1])
        model.load_state_dict(_under("model", tensors))
        objective.load_state_dict(_under("objective", tensors))
        _load_optimizer(optimizer, _under("optimizer", tensors))
        totals, first_bad = tensors["totals"].to(device), tensors["first_bad"].to(device)
        return State(totals, first_bad, **metadata["state"])

    def newest_step(self) -> int:
        """The step a restored training would go on from."""
        return int(self._paths()[-1].stem.removeprefix("step-")) if self._paths() else 0

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """State by parameter number; the parameter groups come from the recipe and the schedule."""
    return {
        f"optimizer.{number}.{name}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def _load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".")
        like = parameters[int(number)]
        if tensor.shape == like.shape:  # in the parameter's memory format, as it was
            tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
