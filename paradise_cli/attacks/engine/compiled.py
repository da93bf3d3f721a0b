"""A classifier compiled for the one batch shape that attacks ask about, checked against itself."""

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Compute
from paradise_cli.attacks.engine.classifier import Classifier, Function
from paradise_cli.attacks.protocol.lanes import input_gradient
from paradise_cli.core.errors import ParadiseError, named
from paradise_cli.core.threads import one_thread_each

_AGREE = 0.01  # of the size of a gradient


def compiled(classifier: Classifier, images: Tensor, compute: Compute) -> Function:
    """The classifier's function, compiled by `torch.compile` (a minute or so) and asked about these
    images.

    Raises ParadiseError where it cannot be compiled, as without a C++ compiler, or where the
    gradients of its logits come out differently.
    """
    # The one shape that will be asked about: another would be compiled for anew.
    copies = -(-compute.width // len(images))
    batch = images.repeat(copies, 1, 1, 1)[: compute.width].to(compute.device)
    plain = _gradient(classifier, batch, compute)
    with compute.searching():
        layout = classifier.layout

    def alone(images: Tensor) -> Tensor:
        # Copied within what is compiled: torch.compile warns of an input that is itself computed.
        return classifier.function(images.clone(memory_format=layout))

    function: Function = torch.compile(alone, dynamic=False)
    try:
        classifier.quick = function
        with one_thread_each():  # as the engine asks: what is compiled holds for so many threads
            quick = _gradient(classifier, batch, compute)
            with torch.no_grad(), compute.searching():
                classifier(batch)
    except Exception as error:
        raise ParadiseError(f"the classifier cannot be compiled: {named(error)}") from error
    finally:
        classifier.quick = None
    if not float((quick - plain).norm()) <= _AGREE * float(plain.norm()):
        raise ParadiseError("compiled, the classifier has other gradients")
    return function


def _gradient(classifier: Classifier, batch: Tensor, compute: Compute) -> Tensor:
    x = batch.clone().requires_grad_(True)
    with torch.enable_grad(), compute.searching():
        logits = classifier(x)
        return input_gradient(logits.amax(1), x)
