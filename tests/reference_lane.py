"""What the engine does to one lane, in plain lines: `test_reference_lane.py` holds it to this.

A lane is a slot of the batch of fixed shape; it works on one image in one run at a time. Here all
slots hold the same run, so that kernels see the shape that they see in the engine, and only the
first slot is read.
"""

import torch
from torch import Tensor

from paradise_cli.attacks.engine.batches import Search
from paradise_cli.attacks.engine.jobs import Job, reached
from paradise_cli.attacks.engine.lane_batch import period_of
from paradise_cli.attacks.protocol.lanes import Answer, Attack, Lanes, input_gradient


def run_lane(
    search: Search[Attack], job: Job, image: Tensor, label: Tensor, begin: Tensor
) -> tuple[bool, Tensor, int]:
    """Whether the run succeeded, the point [C, H, W] where it ended, and the points asked about."""
    attack, width = search.attack, search.compute.width
    numbers = torch.tensor([[int(label)], [job.target], [job.key], [0]]).expand(4, width)
    pixels = [part.repeat(width, 1, 1, 1) for part in (image, begin)]
    lanes = Lanes(*pixels, *numbers)
    with torch.no_grad(), search.compute.searching():
        state = attack.start(lanes, search.victim)
    since_look, denied, claim = 0, False, None

    def granted(points: Tensor) -> bool:
        found = search.confirmed(points[:1], lanes.images[:1], lanes.labels[:1], lanes.targets[:1])
        return bool(found)

    for asked in range(1, attack.steps + 1):
        # Ask about the point x.
        wanted = attack.gradient and since_look % attack.cycle == 0
        x = state["x"].detach().requires_grad_(wanted)
        with torch.set_grad_enabled(wanted), search.compute.searching():
            logits, loss = attack.evaluate(search.victim, x, lanes, state)
        gradient = input_gradient(loss, x) if wanted else torch.empty(0)
        x, logits, loss = x.detach(), logits.detach().float(), loss.detach().float()

        # Did it get where it should, inside the ball? Until the next look the best claim counts.
        claims = reached(search.goal, logits, lanes.labels, lanes.targets)
        claims &= attack.threat.contains(x, lanes.images)
        if claims[0] and (claim is None or loss[0] > claim[1][0]):
            claim = (x, loss, asked)

        # Move, but for the last point, of which the attack only learns the answer.
        state = attack.step(lanes, state, Answer(logits, loss, gradient))
        over = asked == attack.steps or ("ended" in state and bool(state["ended"][0]))
        if asked == attack.steps:
            state["x"] = x
        lanes, since_look = lanes._replace(step=lanes.step + 1), since_look + 1

        # A claim, the end and the end of a period are looked at; what fp32 denied once in bf16
        # makes no claim halt again.
        if (claims[0] and not denied) or over or since_look == period_of(attack):
            if claim is not None and granted(claim[0]):
                return True, claim[0][0], claim[2]
            in_bf16 = search.compute.precision == "bf16"
            denied |= in_bf16 and len(search.judges) == 1 and claim is not None
            since_look, claim = 0, None
            if over:
                end = attack.result(state)
                return in_bf16 and granted(end), end[0], asked
    raise AssertionError("an attack has at least one step")
