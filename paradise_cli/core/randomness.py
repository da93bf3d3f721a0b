"""Randomness as a function of what it is for, never as a state."""

import hashlib
import math
from collections.abc import Sequence

import torch


def seed_of(*key: int | str) -> int:
    """A 63-bit seed from a key such as (seed, purpose, step); equal keys give equal seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator seeded by a key. Drawing on the CPU gives every device the same numbers."""
    return torch.Generator().manual_seed(seed_of(*key))


def permutation(n: int, *key: int | str) -> torch.Tensor:
    """A random order of n items, int64 [n], that depends only on the key."""
    return torch.randperm(n, generator=generator(*key))


_GOLDEN, _MIX_1, _MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def keyed_bits(
    keys: torch.Tensor, shape: Sequence[int], *purpose: torch.Tensor | int
) -> torch.Tensor:
    """64 random bits each, int64 [B, *shape], row i a function of keys[i] and the purposes alone.

    Keys and purposes (such as a step) are int64 [B] or one number. SplitMix64 over a counter, in
    integers on the keys' device: it gives every device the same numbers, in any batch, and never
    waits for the host.
    """
    keys = derived_keys(keys, *purpose)
    count = math.prod(shape)
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    return _mixed(keys[:, None] + counter).view(len(keys), *shape)


def keyed_uniform(
    keys: torch.Tensor, shape: Sequence[int], *purpose: torch.Tensor | int
) -> torch.Tensor:
    """Uniform float32 in (0, 1), [B, *shape], keyed as `keyed_bits`."""
    # 23 bits: with 24 the half would round the largest up to 1, whose normal is infinite.
    bits = shifted(keyed_bits(keys, shape, *purpose), 41)
    return (bits.to(torch.float32) + 0.5).mul_(2.0**-23)


def derived_keys(keys: torch.Tensor, *purpose: torch.Tensor | int) -> torch.Tensor:
    """Keys int64 [B] for these purposes; what is drawn by them is independent of other draws."""
    for part in purpose:
        keys = _mixed(keys * 3 + part)
    return keys


def image_keys(index: torch.Tensor, *key: int | str) -> torch.Tensor:
    """A key for each image, int64 [B] on the device of `index`: a function of both."""
    return derived_keys(index, seed_of(*key))


def keyed_normal(
    keys: torch.Tensor, shape: Sequence[int], *purpose: torch.Tensor | int
) -> torch.Tensor:
    """Standard normal float32 [B, *shape], keyed as `keyed_uniform`."""
    normal: torch.Tensor = torch.special.ndtri(keyed_uniform(keys, shape, *purpose))
    return normal


def normal_draws(rows: torch.Tensor, draws: int, size: int, *key: int | str) -> torch.Tensor:
    """Standard normal float32 [N, draws, size]: a vector for each row and each draw of it.

    `rows` are int64 [N]. A vector depends on the key, its row and its number alone: more rows or
    more draws leave the others as they are.
    """
    # torch.randn would not do: it draws fewer than 16 numbers in another way than more of them, so
    # that the first of two draws is not the only one of one.
    number = torch.arange(draws, device=rows.device).repeat(len(rows))
    seeds = torch.full_like(number, seed_of(*key))
    normal = keyed_normal(seeds, (size,), rows.repeat_interleave(draws), number)
    return normal.view(len(rows), draws, size)


def _mixed(z: torch.Tensor) -> torch.Tensor:
    """SplitMix64's mixing, which overwrites its argument."""
    # In place: images are a million numbers, and fresh memory for each step costs most of the time.
    z = z.add_(_GOLDEN)
    z = z.bitwise_xor_(shifted(z, 30)).mul_(_MIX_1)
    z = z.bitwise_xor_(shifted(z, 27)).mul_(_MIX_2)
    return z.bitwise_xor_(shifted(z, 31))


def shifted(z: torch.Tensor, bits: int) -> torch.Tensor:
    """A fresh int64 tensor shifted to the right without the sign."""
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)
