"""What decoders make of latents that are moved or encoded again."""

from collections.abc import Sequence

import torch

from paradise_cli.core.errors import ParadiseError
from paradise_cli.reproduction.encoder_maps import decoder_of, encoder_of
from paradise_cli.reproduction.latent_walks import Latents, arithmetic
from paradise_cli.reproduction.latent_walks import serial as walked
from paradise_cli.reproduction.quantities.base import (
    QUANTITIES,
    Measured,
    Network,
    Quantity,
    only,
)
from paradise_cli.robustness.examples import pixels_of

SAMPLES = 200


@QUANTITIES.register
def edit_kept(*, plus: int, minus: int) -> Quantity:
    """Of the difference of two classes' mean latents, added to each image of `minus`: the mean
    share that is found again when the decoded image is encoded; 1 is a linear edit (paper Fig. 3).
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        split, classes = network.opened.split, network.loaded.info.targets[0].classes
        if not {plus, minus} <= {*range(len(classes))}:
            raise ParadiseError(
                f"{network.name}: plus {plus} and minus {minus} are to be classes by number,"
                f" 0 to {len(classes) - 1}"
            )
        latents = Latents(
            mu=network.posterior.mu,
            labels=split.labels[:, 0],
            encode=encoder_of(network.loaded),
            decode=decoder_of(network.loaded),
        )
        found = arithmetic(
            latents,
            lambda rows: pixels_of(split, torch.tensor(rows)),
            classes,
            plus,
            minus,
            shown=1,
        )
        return Measured.of(found.kept, found.n)

    return of


@QUANTITIES.register
def serial_change() -> Quantity:
    """Of samples of a Gaussian fitted to the aggregate posterior: the mean squared change of a
    pixel at the second reconstruction, as a share of the spread of the first pictures (paper
    Fig. 2).
    """

    def of(networks: Sequence[Network]) -> Measured:
        network = only(networks)
        found = walked(
            network.posterior, encoder_of(network.loaded), decoder_of(network.loaded), SAMPLES
        )
        spread = float(found.images[:, 0].var(0).mean())
        # A decoder that ignores z would pass for one that changes nothing.
        if spread == 0:
            raise ParadiseError(f"{network.name}: all its pictures are the same")
        change = found.moved[1]
        ends = (change.value / spread, change.low / spread, change.high / spread)
        return Measured(*ends, SAMPLES)

    return of
