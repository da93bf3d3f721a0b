"""A good recipe to spoil, and what is said about a spoilt one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paradise_cli.core.errors import UsageError
from paradise_cli.recipe.schema import load_recipe

Write = Callable[[str | bytes], str]

GOOD = """\
name: good
data: {name: digits}
model:
  backbone: {name: mlp, hidden: [8]}
  latent_dim: 2
objective:
  tasks:
    - {distortion: {name: cross_entropy}, head: {name: linear}}
  alpha: 1e-3
  rate: {q: batch}
optim: {name: adam, lr: 1e-3}
train: {epochs: 3, batch_size: 128}
"""


def write_recipe(text: str | bytes) -> str:
    """Write a recipe to r.yaml in the current folder."""
    Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return "r.yaml"


def lines_of(path: str, *overrides: str) -> list[str]:
    """The lines of the message that refuses a recipe."""
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).splitlines()
