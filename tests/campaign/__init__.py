"""Ten thousand hostile inputs and a hundred kills: `python -m tests.campaign` (docs/extending.md)."""
