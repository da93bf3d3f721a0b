"""What a training must remember to go on as if it had never stopped."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paradise_cli.core.errors import ParadiseError, UsageError, printable
from paradise_cli.core.storage import (
    DIGEST,
    content_digest,
    load_metadata,
    load_tensors,
    require_regular,
    save_tensors,
)
from paradise_cli.training.checkpoint_content import (
    check_metadata,
    check_tensors,
    module_tensors,
    optimizer_tensors,
)
from paradise_cli.training.run_folder import AVERAGED, PLAIN

_NAME = re.compile(r"step-[0-9]{9,18}\.safetensors\Z")
KEPT = 2  # one to go on from, and one before it should that be damaged


@dataclass(frozen=True)
class Best:
    """The best score of one kind of weights so far, and the step after which they had it.

    A score is a tuple, higher is better; its later numbers decide between equal earlier ones.
    """

    score: tuple[float, ...]
    step: int


@dataclass
class State:
    """Where a training stands: steps done, sums over the running epoch, best validation so far.

    `totals` [terms] sums each logged term over the epoch's steps; `first_bad` [terms] is the first
    step at which a term was not finite, else -1. Both live on the device. `best` is by kind of
    weights: plain ones and averaged ones are chosen each for themselves.
    """

    totals: Tensor
    first_bad: Tensor
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Best] = field(default_factory=dict)
    terms: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, device: torch.device) -> "State":
        """The state before the first step."""
        totals = torch.zeros(0, dtype=torch.float64, device=device)
        first_bad = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(totals, first_bad)

    def observe(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms, on the device, without waiting for them."""
        # In double: over an epoch of thousands of steps float32 sums lose digits.
        values = torch.stack([value.double() for value in terms.values()])
        # Which terms there are is known from the first step on.
        if not self.terms:
            self.terms = list(terms)
            self.start_epoch()
        elif self.terms != list(terms):
            raise ParadiseError(
                "the checkpoint is of a training with other terms of the loss"
                f" ({printable(', '.join(self.terms))}): start over beside it with --fresh"
            )
        self.totals += values
        # Masks, not branches: a branch on a value would wait for the device.
        fresh_bad = (self.first_bad < 0) & ~values.isfinite()
        self.first_bad.masked_fill_(fresh_bad, self.step)

    def improved(self, scores: Mapping[str, tuple[float, ...]]) -> Iterator[str]:
        """Each kind of weights whose score is its best so far, which is noted."""
        for kind, score in scores.items():
            # Nothing would ever be better than a first score that is no number.
            if any(map(math.isnan, score)):
                continue
            # Of equal scores the first is kept: a later one was trained longer for nothing.
            if kind not in self.best or score > self.best[kind].score:
                self.best[kind] = Best(score, self.step)
                yield kind

    def start_epoch(self) -> None:
        """Forget the sums."""
        device = self.totals.device
        self.totals = torch.zeros(len(self.terms), dtype=torch.float64, device=device)
        self.first_bad = torch.full((len(self.terms),), -1, device=device)

    def means(self, steps: int) -> dict[str, float]:
        """Mean of each term over `steps` steps, for which the host waits.

        Raises NonFinite for a term that was not finite.
        """
        first_bad = dict(zip(self.terms, self.first_bad.tolist(), strict=True))
        bad = {term: step for term, step in first_bad.items() if step >= 0}
        if bad:
            raise NonFinite(bad)
        means = (self.totals / max(steps, 1)).tolist()
        return dict(zip(self.terms, means, strict=True))


class NonFinite(ParadiseError):
    """A term of the loss became infinite or NaN."""

    def __init__(self, first_bad: dict[str, int]) -> None:
        step = min(first_bad.values())
        terms = [term for term, at in first_bad.items() if at == step]
        # The loss is a sum of the others: it says nothing where one of them is named.
        culprits = [term for term in terms if term not in ("loss", "distortion")] or terms
        kept = (
            f"{_cause(culprits)} The last checkpoint, if one was written, holds a state before it"
        )
        super().__init__(
            f"training stopped: {' and '.join(culprits)} not finite at step {step}."
            f" {kept if step else _FROM_THE_START}"
        )


_CALMER = "lower optim.lr, or a weight such as alpha, or set optim.clip"


_FROM_THE_START = (
    "No step was taken yet: look at the numbers that scale the loss and the pixels, as"
    " model.std, temperature and alpha"
)


def _cause(terms: list[str]) -> str:
    if terms == ["rate"]:
        return (
            "Likely cause: sigma collapsed or grew without bound; raise model.sigma_floor or"
            " lower alpha."
        )
    if "abs_mu" in terms or "weights" in terms:
        return f"Likely cause: the weights diverged; {_CALMER}."
    return f"Likely cause: the learning rate is too high; {_CALMER}."


class Checkpoints:
    """The checkpoint files of one run folder: the last two, each complete by itself.

    Each holds `metadata`, what the training stands on, and a digest of all its content.
    """

    def __init__(self, folder: Path, metadata: dict[str, Any]) -> None:
        self.folder = folder
        self.metadata = metadata

    def save(self, state: State, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> None:
        """Publish `step-N.safetensors`, then drop all but it and the one before; NonFinite for bad
        state.

        `modules` are all that training changes, by names without a dot.
        """
        state.means(1)  # raises for a term that is not finite
        tensors = module_tensors(modules)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            # The loss was finite, but the update after it was not.
            raise NonFinite({"weights": state.step})
        tensors |= {"totals": state.totals, "first_bad": state.first_bad}
        tensors |= optimizer_tensors(optimizer)
        scalars = {k: v for k, v in asdict(state).items() if k not in ("totals", "first_bad")}
        # Through JSON and back, so that the digest is of what a reader will see.
        metadata = self.metadata | {"state": scalars, "tensors": len(tensors)}
        metadata = json.loads(json.dumps(metadata))
        metadata[DIGEST] = content_digest(tensors, metadata)
        path = self._path(state.step)
        save_tensors(path, tensors, metadata)
        paths = self._paths()
        behind = paths.index(path) + 1
        # Later ones were damaged, as this training went on from before them: kept, they would take
        # the place of a whole one, and mended, they would be of other steps than those taken since.
        for other in [*paths[: max(0, behind - KEPT)], *paths[behind:]]:
            other.unlink(missing_ok=True)

    def newest(
        self, warn: Callable[[str], None], fits: Callable[["Saved"], None] = lambda saved: None
    ) -> "Saved | None":
        """The newest checkpoint that is whole and `fits`, None where there is none at all.

        `fits` raises ParadiseError for what is no checkpoint of this training, which counts as
        damaged; UsageError ends the search. `warn` is told of a damaged one, behind which an older
        one was found. Raises ParadiseError where all are damaged, or what is there is no file.
        """
        damaged: list[str] = []
        paths = self._paths()
        # Nor could a training write there at its end, hours later.
        for path in paths:
            require_regular(path)
        for path in reversed(paths):
            try:
                saved = Saved.read(path)
                fits(saved)
            except UsageError:
                raise
            except ParadiseError as error:
                damaged.append(str(error))
                continue
            for reason in damaged:
                warn(f"{reason}; going on from the checkpoint before it, step {saved.step:,}")
            return saved
        if damaged:
            raise ParadiseError("\n".join([*damaged, "no checkpoint is left: use --fresh"]))
        return None

    def data(self) -> dict[str, Any] | None:
        """The `identity` of the data by the newest checkpoint; None where it says nothing."""
        for path in self._paths()[-1:]:
            with suppress(ParadiseError):  # damaged, which is no fault of the data
                metadata = load_metadata(path)
                metadata.pop(DIGEST, None)
                check_metadata(path, metadata)
                return metadata.get("data")
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"

    def _paths(self) -> list[Path]:
        # Only names as `_path` makes them: a copy that somebody made is theirs.
        names = [path for path in self.folder.glob("step-*.safetensors") if _NAME.match(path.name)]
        return sorted(names, key=lambda path: int(path.stem.removeprefix("step-")))


def trained_modules(
    model: nn.Module, objective: nn.Module, averaged: nn.Module | None
) -> dict[str, nn.Module]:
    """All that a training changes, by the names that checkpoints know it by."""
    modules = {"model": model, "objective": objective}
    return modules if averaged is None else modules | {AVERAGED: averaged}


@dataclass(frozen=True)
class Saved:
    """What a checkpoint file holds, every bit of it verified."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """The content of one file; raises ParadiseError for a damaged one."""
        tensors, metadata = load_tensors(path)
        # Older versions wrote no digest: their files are taken as they are.
        digest = metadata.pop(DIGEST, None)
        if digest is not None and digest != content_digest(tensors, metadata):
            raise ParadiseError(f"{path} is damaged: its content does not match its own digest")
        check_metadata(path, metadata)
        return cls(path, tensors, metadata)

    def require_fit(self, modules: Mapping[str, nn.Module], optimizer: Optimizer) -> None:
        """Raise ParadiseError where `restore` into these, or ones like them, would fail."""
        check_tensors(self.path, self.tensors, self.metadata, modules, optimizer)

    @property
    def step(self) -> int:
        """How many steps were done."""
        return int(self.metadata["state"]["step"])

    @property
    def best(self) -> dict[str, int]:
        """After which step each kind of weights was at its best; older versions did not say."""
        return {kind: best["step"] for kind, best in self.metadata["state"].get("best", {}).items()}

    def without_best(self, kind: str) -> "Saved":
        """The same, with no best weights of that kind so far."""
        state = self.metadata["state"]
        others = {name: best for name, best in state["best"].items() if name != kind}
        return replace(self, metadata=self.metadata | {"state": state | {"best": others}})

    def restore(
        self, modules: Mapping[str, nn.Module], optimizer: Optimizer, device: torch.device
    ) -> State:
        """Load the checkpoint into the modules and the optimiser and return its state."""
        for name, module in modules.items():
            module.load_state_dict(_under(name, self.tensors))
        _load_optimizer(optimizer, _under("optimizer", self.tensors))
        totals = self.tensors["totals"].to(device)
        first_bad = self.tensors["first_bad"].to(device)
        return State(totals, first_bad, **_scalars(self.metadata["state"]))


def _scalars(stored: dict[str, Any]) -> dict[str, Any]:
    """A state's numbers as a checkpoint of this or an older version holds them."""
    stored = dict(stored)
    if "best" in stored:
        best = {kind: Best(tuple(b["score"]), b["step"]) for kind, b in stored["best"].items()}
        return stored | {"best": best}
    # Older versions knew plain weights alone.
    score, step = stored.pop("best_score"), stored.pop("best_step")
    return stored if score is None else stored | {"best": {PLAIN: Best((score,), step)}}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


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
