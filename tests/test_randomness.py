"""Keyed noise at the ends of its range."""

import pytest
import torch

from paradise_cli.core import randomness


@pytest.mark.parametrize("bits", [0, -1])
def test_uniform_noise_is_never_0_or_1(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """24 bits and a half would round up to 1, once in 2^24 draws, and the normal would be
    infinite.
    """
    monkeypatch.setattr(randomness, "_mixed", lambda z: torch.full_like(z, bits))
    uniform = randomness.keyed_uniform(torch.arange(2), (3,))
    assert bool(((uniform > 0) & (uniform < 1)).all())
    assert bool(randomness.keyed_normal(torch.arange(2), (3,)).isfinite().all())
