"""Ten thousand hostile inputs, a hundred kills: `python -m tests.campaign` (docs/extending.md)."""
