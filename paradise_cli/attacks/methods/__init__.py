"""The attacks, one family a file; importing this fills their registry."""

from paradise_cli.attacks.methods import (  # noqa: F401
    apgd,
    fab,
    gradient,
    label_only,
    latent,
    multi_targeted,
    noisy,
    random_search,
    spsa,
    square,
)
