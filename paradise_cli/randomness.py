"""Randomness as a function of what it is for, never as a state."""

import hashlib

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
