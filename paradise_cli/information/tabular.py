"""Eq. 5 of the paper to the letter, with exact q: p(z|x) is a table (method.md 2.1, 2.2)."""

import torch
from torch import Tensor

from paradise_cli.information.blahut_arimoto import DiscreteSource


def descend(source: DiscreteSource, alpha: float, steps: int, stretch: float = 1.0) -> Tensor:
    """F = D + alpha I(X;Z) before each of `steps` gradient steps and after; float64 [steps + 1].

    p(z|x) is a softmax of logits [n, m], which start equal. Each step takes the gradient of D +
    alpha (-H[p(z|x)] - E log q(z)) with q, the exact aggregate posterior, held constant; each row's
    by itself, so that rare letters learn as fast. F never increases: the step is short, and a new q
    can only lower F. `stretch` multiplies the step; above 2 that is no longer sure.
    """
    p, d = source.supported()
    logits = torch.zeros_like(d)
    # In the logits of a row, E d has a curvature of at most half its range: twice this step would
    # still fall.
    step = stretch * 2 / (float(d.max() - d.min()) + alpha)
    values = []
    for _ in range(steps):
        log_table = logits.log_softmax(1)  # [n, m]
        table = log_table.exp()
        log_q = (p @ table).log()  # [m]
        cost = d + alpha * (log_table - log_q)
        mean = (table * cost).sum(1, keepdim=True)  # [n, 1]: F of each row
        values.append(p @ mean[:, 0])
        logits = logits - step * table * (
            cost - mean
        )  # the gradient of the sum of `mean`, every row alike
    table = logits.softmax(1)
    channel = torch.special.xlogy(table, table / (p @ table)).sum(1)
    values.append(p @ ((table * d).sum(1) + alpha * channel))
    return torch.stack(values)
