"""Placeholder, replaced by the wrapper that averages over draws."""

from paradise_cli.attacks.lanes import Attack


class Averaged(Attack):
    """Not yet."""

    def __init__(self, attack: Attack, draws: int) -> None:
        raise NotImplementedError
