"""The kinds of hostile input: what is changed, the command that meets it, and what must not differ.

A kind is one row: `make(place, draw)` changes a copy of the base folder and gives a command line;
`wrong(place, base, code)` says what is wrong where the command ended as if nothing were.
"""

import csv
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paradise_cli.core.resources import resource_dir
from tests.campaign.mutate import BYTES, STRANGE, TEXTS, rewrite

TRAIN = ["train", "small.yaml", "--out", "run", "--device", "cpu"]
ATTACK = ["attack", "run", "--data", "digits", "--suite", "quick", "--eps", "0.1", "--n", "6",
          "--audited", "4", "--out", "attacked", "--device", "cpu"]  # fmt: skip
ENCODE = ["encode", "images", "--model", "run", "--out", "z.npy", "--device", "cpu"]
AGAIN = [word.replace("z.npy", "again.npy") for word in ENCODE]
RECIPE = """\
name: small
data: {name: digits}
model: {backbone: {name: mlp, hidden: [16]}, latent_dim: 4}
objective:
  tasks: [{distortion: cross_entropy, head: linear}]
  alpha: 0.05
optim: {name: adam, lr: 1.0e-2}
train: {epochs: 2, batch_size: 128, seed: 0, checkpoint_minutes: 1.0e-9}
"""


def never(place: Path, base: Path, code: int) -> str:
    """Of kinds whose answer nobody knows: it is enough that there is one."""
    return ""


@dataclass(frozen=True)
class Kind:
    """A kind of hostile input; see the module."""

    name: str
    make: Callable[[Path, random.Random], Sequence[str]]
    wrong: Callable[[Path, Path, int], str] = never


def recipe(place: Path, draw: random.Random) -> Sequence[str]:
    path = place / "small.yaml"
    for _ in range(draw.randint(1, 2)):
        path.write_bytes(draw.choice(BYTES)(path.read_bytes(), draw))
    return draw.choice([["recipes", "check", "small.yaml"], [*TRAIN, "--dry-run"]])


SETTINGS = [
    "train.seed", "train.batch_size", "train.epochs", "model.latent_dim", "model.backbone.hidden",
    "data.root", "data.name", "objective.alpha", "objective.tasks.0", "optim.lr", "train.average",
    "validate", "views", "model", "data.augment",
]  # fmt: skip


def setting(place: Path, draw: random.Random) -> Sequence[str]:
    value = draw.choice([*TEXTS, *map(json.dumps, STRANGE)])
    return [*TRAIN, "--dry-run", "--set", f"{draw.choice(SETTINGS)}={value}"]


def weights(place: Path, draw: random.Random) -> Sequence[str]:
    rewrite(place / "run" / "model.safetensors", draw)
    return AGAIN


def embedding(place: Path, base: Path, code: int) -> str:
    if code != 0:
        return ""
    return "" if np.isfinite(np.load(place / "again.npy")).all() else "the embedding is not finite"


def run_folder(place: Path, draw: random.Random) -> Sequence[str]:
    kept = [path for path in sorted((place / "stopped").rglob("*")) if path.is_file()]
    rewrite(draw.choice([path for path in kept if path.suffix != ".png"]), draw)
    return [*TRAIN[:3], "stopped", *TRAIN[4:]]


def same_weights(place: Path, base: Path, code: int) -> str:
    one, other = (folder / "model.safetensors" for folder in (place / "stopped", base / "run"))
    if code != 0 or one.read_bytes() == other.read_bytes():
        return ""
    return "the weights are not those of a whole training"


def image(place: Path, draw: random.Random) -> Sequence[str]:
    path = draw.choice(sorted((place / "images").iterdir()))
    for _ in range(draw.randint(1, 3)):
        path.write_bytes(draw.choice(BYTES)(path.read_bytes(), draw))
    return AGAIN


def other_images(place: Path, base: Path, code: int) -> str:
    if not (place / "again.npy").exists():
        return "" if code else "no embedding, and no failure"
    rows = {}
    for folder, name in ((base, "z"), (place, "again")):
        with (folder / f"{name}.index.csv").open() as file:
            names = [row["path"] for row in csv.DictReader(file) if row["row"]]
        rows[folder] = dict(zip(names, np.load(folder / f"{name}.npy"), strict=True))
    known = rows[base]
    differing = [name for name, z in rows[place].items() if not np.array_equal(z, known[name])]
    return f"{len(differing)} embeddings changed, one image did" if len(differing) > 1 else ""


def array(place: Path, draw: random.Random) -> Sequence[str]:
    name = draw.choice(["images.npy", "images.npz", "posteriors.npz", "source.json"])
    for _ in range(draw.randint(1, 2)):
        rewrite(place / name, draw)
    return {
        "images.npy": [*ENCODE[:1], name, *ENCODE[2:5], "other.npy"],
        "images.npz": ["evaluate", "run", "--data", name],
        "posteriors.npz": ["rate", name],
        "source.json": ["rd", name, "--points", "3", "--out", "curves"],
    }[name]


def ledger(place: Path, draw: random.Random) -> Sequence[str]:
    kept = sorted(path for path in (place / "attacked").rglob("*") if path.is_file())
    rewrite(draw.choice([path for path in kept if path.suffix in (".jsonl", ".f32")]), draw)
    return ATTACK


def same_accuracy(place: Path, base: Path, code: int) -> str:
    if code != 0:
        return ""
    found, known = (json.loads((at / "attacked/report.json").read_text()) for at in (place, base))
    same = found["robust_accuracy"] == known["robust_accuracy"]
    return "" if same else "another robust accuracy"


HOSTILE = """\
import torch
from torch import nn

calls = 0

class Hostile(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        global calls
        calls += 1
        z = self.layer(x.flatten(1))
        if calls > {after}:
            {what}
        return z

def load():
    return Hostile().eval()
"""
DEEDS = [
    "raise ValueError('no')", "raise MemoryError", "raise SystemExit(0)", "raise KeyError(1)",
    "return None", "return (z,)", "return z[:1]", "return z[:, :3]", "return z * float('nan')",
    "return z * float('inf')", "return z.long()", "return z.to_sparse()", "return z.detach()",
    "x.mul_(0.5)", "x.zero_()", "torch.set_grad_enabled(False)", "print('hello')",
    "torch.set_default_dtype(torch.float64)", "return z + torch.randn_like(z)",
    "return z - z.mean(0)", "self.layer.weight.data.mul_(1.01)", "return z.half()",
    "return z.masked_fill(torch.arange(10) > 7, float('-inf'))", "self.train()",
    "torch.manual_seed(0)", "return z.double()", "raise StopIteration", "return z[..., None]",
]  # fmt: skip


def classifier(place: Path, draw: random.Random) -> Sequence[str]:
    text = HOSTILE.format(after=draw.choice([0, 1, 5, 30, 200]), what=draw.choice(DEEDS))
    (place / "hostile.py").write_text(text)
    return ["attack", "hostile:load", *ATTACK[2:-3], "theirs", "--json"]


def one_document(place: Path, base: Path, code: int) -> str:
    if code != 0:
        return ""
    text = (place.parent / "stdout").read_text()
    try:
        json.loads(text)
    except ValueError:
        return "stdout is no JSON document"
    return ""


COMMANDS = [
    ([*ENCODE], ["--batch-size", "--samples", "--device", "--out", "--model", "--seed"]),
    (["evaluate", "run"], ["--draws", "--data", "--split", "--device", "--out", "--seed"]),
    (["predict", "images", "--model", "run"], ["--top", "--out", "--device", "--batch-size"]),
    (["rd", "bernoulli", "--out", "curves"], ["--p", "--slopes", "--points", "--at-rate"]),
    (["rate", "posteriors.npz"], ["--draws", "--labels", "--seed", "--out"]),
    (["attack", "run", "--data", "digits", "--n", "2"], ["--eps", "--suite", "--norm", "--curve",
                                                         "--budget", "--batch-size", "--ci"]),
    (["sweep", "small.yaml", "--out", "sweep", "--dry-run"], ["--alpha", "--seeds", "--grid"]),
    (["certify", "run", "--data", "digits", "--n", "2"], ["--sigma", "--samples", "--n0"]),
    (["zoo", "info"], ["--json"]),
]  # fmt: skip


def option(place: Path, draw: random.Random) -> Sequence[str]:
    command, options = draw.choice(COMMANDS)
    return [*command, draw.choice(options), _value(draw)]


def _value(draw: random.Random) -> str:
    value = draw.choice([*TEXTS, "1e9", "99999999999999999999", "null", "missing/x", "run"])
    # Where the user says that a file outside is meant, it is no fault to write it.
    return value.replace("\0", "").replace("../", "")


FIGURES = {
    "ellipses": ["--data", "--split", "--out", "--set"],
    "plane": ["--data", "--split", "--out", "--seed", "--set"],
    "curves": ["--out", "--overwrite"],
    "serial": ["--data", "--shown", "--head", "--out"],
    "arithmetic": ["--data", "--plus", "--minus", "--target", "--out"],
    "surface": ["--data", "--split", "--eps", "--n", "--shown", "--head", "--seed", "--out"],
    "targets": ["--data", "--suite", "--eps", "--steps", "--n", "--shown", "--seed", "--out"],
    "gradients": ["--data", "--split", "--shown", "--head", "--out", "--set"],
    "orthogonality": ["--data", "--split", "--n", "--head", "--out", "--set"],
}
OF_CLASSIFIERS = ["surface", "targets", "gradients", "orthogonality"]


def figure(place: Path, draw: random.Random) -> Sequence[str]:
    name = draw.choice([*FIGURES, *OF_CLASSIFIERS])
    words = ["figure", name, "run"]
    if name in OF_CLASSIFIERS and draw.random() < 0.5:
        classifier(place, draw)
        words[2] = "hostile:load"
    if "--data" in FIGURES[name]:
        words += ["--data", draw.choice(["digits", "digits", "digits", "images.npz", "classes"])]
    if draw.random() < 0.5:
        words += [draw.choice(FIGURES[name]), _value(draw)]
    return [*words, "--json"]


def claims(place: Path, draw: random.Random) -> Sequence[str]:
    folder = place / "claims"
    folder.mkdir()
    for name in ("C1.yaml", "X4.yaml", "C4.yaml", "networks.yaml"):
        shutil.copy(resource_dir("claims") / name, folder)
    path = draw.choice(sorted(folder.iterdir()))
    for _ in range(draw.randint(1, 2)):
        path.write_bytes(draw.choice(BYTES)(path.read_bytes(), draw))
    todo = draw.choice([["--list"], ["C4", "--dry-run"], ["C1", "X4"]])
    return ["reproduce", *todo, "--claims", "claims", "--device", "cpu"]


KINDS = [
    Kind("recipes", recipe),
    Kind("settings", setting),
    Kind("weights", weights, embedding),
    Kind("run folders", run_folder, same_weights),
    Kind("images", image, other_images),
    Kind("arrays", array),
    Kind("ledgers", ledger, same_accuracy),
    Kind("classifiers", classifier, one_document),
    Kind("options", option),
    Kind("figures", figure, one_document),
    Kind("claims", claims),
]
