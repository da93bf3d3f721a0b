"""Views as recipe algebra: what is drawn, what is compared, and what is refused before data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from paradise_cli.build import (
    build_info,
    build_model,
    build_objective,
    build_optimizer,
    build_plan,
    check_views,
)
from paradise_cli.core.errors import UsageError
from paradise_cli.core.shares import Share
from paradise_cli.data import Batch, batches, synthetic
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.models.encoder import EncoderWithHead
from paradise_cli.perturbations import SAMPLERS
from paradise_cli.perturbations.samplers import Encoder, Sampler
from paradise_cli.recipe.check import RecipeError
from paradise_cli.recipe.schema import Recipe, load_recipe
from paradise_cli.training.step import Step

CPU = torch.device("cpu")
SMALL = ["model.backbone={name: preact_resnet, depth: 8}", "train.precision=fp32"]
PM = "objective.matching={distance: l1, gamma: 10}"
CORNERS = "views=[{name: corner, eps: 0.1}, {name: corner, eps: 0.1}]"
NEIGHBOURS = "views=[{name: corner, eps: 0.1}, {name: adversarial, eps: 0.1, loss: both}]"


def step_of(*overrides: str, double: bool = False) -> tuple[Step, Batch]:
    """A step of the recipe `digits`, changed, and a batch of 8 random images for it."""
    chosen = load_recipe("digits", [*SMALL, *overrides]).recipe
    info = build_info(chosen)
    model, objective = build_model(chosen, info).train(), build_objective(chosen, info).train()
    model = model.double() if double else model
    optimizer = build_optimizer(chosen, model.parameters())
    step = Step(model, objective, optimizer, build_plan(chosen, model, CPU), CPU)
    (batch,) = batches(synthetic(info, 8).train, order=torch.arange(8), batch_size=8, device=CPU)
    return step, batch._replace(images=batch.images.double()) if double else batch


def terms_of(step: Step, batch: Batch, views: list[Tensor], number: int = 0) -> dict[str, Tensor]:
    noise = step.noise(len(views), Share(len(batch.images)), number).flatten(0, 1)
    warm_up = step.objective.warm_up(number)
    return step.objective(step.model, views, batch.labels, noise, warm_up)[1]  # type: ignore[no-any-return]


def test_a_view_is_a_function_of_its_image_and_its_step() -> None:
    step, batch = step_of(NEIGHBOURS)
    both = step.views(batch, 3)
    assert all(torch.equal(*pair) for pair in zip(both, step.views(batch, 3), strict=True))
    order = torch.randperm(8)
    shuffled = Batch(*(part[order] for part in batch))
    corner, near = step.views(shuffled, 3)
    assert torch.equal(corner, both[0][order])
    # Convolutions may round by the place in the batch, and a slope of 0 then has another sign.
    assert float(((near - both[1][order]).abs() < 1e-6).float().mean()) > 0.99
    for again, before in zip(step.views(batch, 4), both, strict=True):
        assert not torch.equal(again, before)


def test_two_views_of_one_kind_are_independent() -> None:
    step, batch = step_of(CORNERS, PM)
    grey = batch._replace(images=torch.full_like(batch.images, 0.5))
    first, second = ((view - 0.5).sign() for view in step.views(grey, 0))
    # 512 pairs of fair signs: their mean product has a standard deviation of 0.044.
    assert abs(float((first * second).mean())) < 5 * 0.044


def test_a_view_around_another_stays_in_its_ball() -> None:
    step, batch = step_of(
        "views=[{name: corner, eps: 0.2}, {name: adversarial, eps: 0.05, around: 0, steps: 3}]"
    )
    first, second = step.views(batch, 0)
    assert float((second - first).abs().max()) <= 0.05 + 1e-6
    assert float((second - batch.images).abs().max()) > 0.1


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "outputs", "posterior", "both"])
def test_an_adversarial_view_climbs_its_loss(loss: str) -> None:
    """Against the start it took: 10 steps of eps / 4 raise the loss on nearly every image."""
    from paradise_cli.information.distances import DISTANCES
    from paradise_cli.perturbations.adversarial import Search

    start, batch = step_of("views=[{name: uniform, eps: 0.1}]")
    climbed, _ = step_of(f"views=[{{name: adversarial, eps: 0.1, loss: {loss}, steps: 10}}]")
    search = Search(DISTANCES["symmetric_kl"]())
    (head,) = climbed.model.heads.values()
    encoder = EncoderWithHead(climbed.model, head)
    climbed.model.eval()
    ascent = getattr(search, loss)(batch.images, batch.labels[:, 0], encoder)
    gained = ascent(climbed.views(batch, 0)[0]) - ascent(start.views(batch, 0)[0])
    assert int((gained > 0).sum()) >= 7


def test_unlabelled_images_stay_where_they_start() -> None:
    step, batch = step_of("views=[{name: adversarial, eps: 0.1, start: image}]")
    hidden = batch._replace(labels=torch.full_like(batch.labels, -1))
    assert torch.equal(step.views(hidden, 0)[0], batch.images)
    assert not torch.equal(step.views(batch, 0)[0], batch.images)


class CountsWeightGradients(TorchDispatchMode):
    """Counts backward passes of convolutions, and those that also give their weights' gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = self.weights = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.passes += 1
            self.weights += bool(args[-1][1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_crafting_computes_gradients_of_pixels_only(batch_norm: str) -> None:
    step, batch = step_of(
        f"views=[{{name: adversarial, eps: 0.1, steps: 2, batch_norm: {batch_norm}}}]"
    )
    convolutions = sum(isinstance(each, torch.nn.Conv2d) for each in step.model.modules())
    with CountsWeightGradients() as count:
        step.views(batch, 0)
    assert (count.passes, count.weights) == (2 * convolutions, 0)
    with CountsWeightGradients() as count:
        step(batch, 0)  # crafts the same way, and trains
    assert (count.passes, count.weights) == (3 * convolutions, convolutions)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_batch_norm_while_crafting_is_the_recipes_choice(batch_norm: str) -> None:
    """Of one image more, only statistics of the batch know; neither leaves a trace."""
    step, batch = step_of(
        f"views=[{{name: adversarial, eps: 0.1, batch_norm: {batch_norm}}}]", double=True
    )
    before = {name: buffer.clone() for name, buffer in step.model.named_buffers()}
    half = Batch(*(part[:4] for part in batch))
    alike = torch.equal(step.views(batch, 0)[0][:4], step.views(half, 0)[0])
    assert alike == (batch_norm == "running")
    assert all(torch.equal(buffer, before[name]) for name, buffer in step.model.named_buffers())
    assert step.model.training and all(module.training for module in step.model.modules())


def test_matching_is_the_distance_between_the_two_posteriors() -> None:
    step, batch = step_of(CORNERS, PM, "objective.alpha=0.5", double=True)
    views = step.views(batch, 0)
    terms = terms_of(step, batch, views)
    step.model.train()
    posterior = step.model.encode(torch.cat(views))
    mu, sigma = posterior.mu.chunk(2), posterior.sigma.chunk(2)
    expected = ((mu[0] - mu[1]).abs() + (sigma[0] - sigma[1]).abs()).mean()
    torch.testing.assert_close(terms["matching"], expected)
    total = terms["distortion"] + 0.5 * terms["rate"] + 10 * terms["matching"]
    # The rate that is logged and the loss it comes from have one mean where q is exact.
    assert abs(float(terms["loss"] - total)) < 0.5 * 8
    assert terms["matching_scale_free"] > 0


def test_matching_of_the_same_pixels_is_zero_but_for_outputs_of_other_noise() -> None:
    step, batch = step_of(CORNERS, PM)
    assert float(terms_of(step, batch, [batch.images] * 2)["matching"]) == 0
    outputs = "objective.matching={of: outputs, distance: kl, gamma: 1}"
    step, batch = step_of("views=[image, image]", outputs)
    assert float(terms_of(step, batch, step.views(batch, 0))["matching"]) > 0


def test_distortion_is_taken_on_the_views_that_a_task_names() -> None:
    one = "{distortion: cross_entropy, head: linear, views: [%s]}"
    tasks = f"objective.tasks=[{one % 0}, {one % 1}, {one % '0, 1'}]"
    step, batch = step_of(CORNERS, PM, tasks)
    # Heads of equal weights, so that only the views differ.
    first, *others = step.model.heads.values()
    for head in others:
        head.load_state_dict(first.state_dict())
    terms = terms_of(step, batch, step.views(batch, 0))
    on = [float(terms[f"distortion/{name}"]) for name in step.model.heads]
    assert on[0] != on[1]
    assert on[2] == pytest.approx((on[0] + on[1]) / 2, rel=1e-6)


def test_gamma_rises_linearly_and_the_loss_follows() -> None:
    step, batch = step_of(CORNERS, "objective.matching={distance: l1, gamma: 10, warmup_steps: 4}")
    gammas = [float(step.objective.warm_up(number)[0]) for number in range(6)]
    assert gammas == [2.5, 5.0, 7.5, 10.0, 10.0, 10.0]
    views = step.views(batch, 0)
    early, late = (
        step.objective(
            step.model,
            views,
            batch.labels,
            step.noise(len(views), Share(8), 0).flatten(0, 1),
            torch.tensor([g, 1.0]),
        )
        for g in (2.5, 10.0)
    )
    gained = float((late[0] - early[0]).detach())
    assert gained == pytest.approx(7.5 * float(late[1]["matching"]), rel=1e-4)


def test_clean_logit_pairing_compares_each_image_with_the_next() -> None:
    step, batch = step_of(
        "objective.matching={between: [0, 0], of: outputs, distance: squared, gamma: 1,"
        " partner: other}",
        "model.stochastic=false",
        "objective.alpha=0",
        double=True,
    )
    found = terms_of(step, batch, step.views(batch, 0))["matching"]
    (head,) = step.model.heads.values()
    logits = head(step.model.encode(batch.images).mu)
    torch.testing.assert_close(found, (logits - logits.roll(1, 0)).square().mean())


BAD = {
    "gamma without two views": (
        [PM],
        "objective.matching.between: there is no view 1: the recipe has one view, 0",
    ),
    "no such view": (
        [CORNERS, "objective.matching={between: [0, 2], distance: l1, gamma: 1}"],
        "between: there is no view 2: the recipe has 2 views, 0 to 1",
    ),
    "a view with itself": (
        [CORNERS, "objective.matching={between: [1, 1], distance: l1, gamma: 1}"],
        "a view does not differ from itself",
    ),
    "the image with itself": (
        ["views=[image, image]", PM],
        "objective.matching.between: views 0 and 1 show the same pixels: name two that differ",
    ),
    "the image with a composition that leaves it alone": (
        ["views=[image, {name: composition, of: [image, image]}]", PM],
        "objective.matching.between: views 0 and 1 show the same pixels",
    ),
    "a view with what shows it again": (
        [
            "views=[image, {name: corner, eps: 0.1}, {name: image, around: 1},"
            " {name: image, around: 2}]",
            "objective.matching={between: [1, 3], distance: l1, gamma: 1}",
        ],
        "objective.matching.between: views 1 and 3 show the same pixels",
    ),
    "outputs without noise, of the same pixels": (
        [
            "views=[image, {name: image, around: 0}]",
            "objective.matching={of: outputs, distance: kl, gamma: 1}",
            "model.stochastic=false",
            "objective.alpha=0",
        ],
        "objective.matching.between: views 0 and 1 show the same pixels",
    ),
    "linearity between the same pixels": (
        ["views=[image, {name: image, around: 0}]", "objective.linearity={gamma: 1}"],
        "objective.linearity.between: an image lies on its own tangent: name two views",
    ),
    "a pair of views of the same pixels": (
        [
            "views=[image, {name: composition, of: [image]}]",
            "objective.tasks=[{distortion: info_nce, head: {name: projection, hidden: [8]}}]",
        ],
        "objective.tasks.0.views: info_nce lies between two views, and these show the same pixels",
    ),
    "an image around a later view": (
        ["views=[image, {name: image, around: 1}]", PM],
        "views.1.around: should be the number of an earlier view (got 1); allowed: 0 to 0",
    ),
    "a task on no view": (
        ["objective.tasks=[{distortion: cross_entropy, head: linear, views: [3]}]"],
        "tasks.0.views: there is no view 3",
    ),
    "a view that nothing uses": (
        [CORNERS, "objective.tasks=[{distortion: cross_entropy, head: linear, views: [0]}]"],
        "views.1: nothing uses this view",
    ),
    "around itself": (
        ["views=[image, {name: corner, eps: 0.1, around: 1}]"],
        "views.1.around: should be the number of an earlier view (got 1); allowed: 0 to 0",
    ),
    "the first view around another": (
        ["views=[{name: corner, eps: 0.1, around: 0}]"],
        "leave it out for the first view",
    ),
    "half a pair": (
        [CORNERS, "objective.matching={between: [0], distance: l1, gamma: 1}"],
        "objective.matching.between: has too few entries (got [0])",
    ),
    "three of a pair": (
        [CORNERS, "objective.matching={between: [0, 1, 0], distance: l1, gamma: 1}"],
        "objective.matching.between: has too many entries (got [0, 1, 0])",
    ),
    "a distance that is none": (
        ["views=[{name: adversarial, eps: 0.1, distance: helinger}]"],
        "views.0: unknown distance 'helinger'; did you mean 'hellinger'?; known: ",
    ),
    "eps 0": (["views=[{name: corner, eps: 0}]"], "views.0.eps: should be greater than 0"),
    "eps above 1": (["views=[{name: uniform, eps: 8}]"], "should be at most 1 (got 8)"),
    "a start of a size at the image itself": (
        ["views=[{name: adversarial, eps: 0.1, start: image, start_size: 0.1}]"],
        "views.0: sampler 'adversarial': start image lies at no distance: leave start_size out",
    ),
    "labels smoothed in a margin": (
        ["views=[{name: adversarial, eps: 0.1, loss: margin, label_smoothing: 0.1}]"],
        "views.0: sampler 'adversarial': loss margin reads no label_smoothing: leave it out",
    ),
    "a distance of labels": (
        ["views=[{name: adversarial, eps: 0.1, distance: l1}]"],
        "views.0: sampler 'adversarial': loss cross_entropy reads no distance: leave it out,",
    ),
    "a view twice": (
        [
            "views=[image, {name: corner, eps: 0.1}]",
            "objective.tasks=[{distortion: cross_entropy, head: linear, views: [1, 0, 1]}]",
        ],
        "objective.tasks.0.views: names a view twice (got [1, 0, 1]): each number once",
    ),
    "steps without end": (
        ["views=[{name: adversarial, eps: 0.1, steps: 1001}]"],
        "views.0.steps: should be at most 1000 (got 1001)",
    ),
    "steps without end, on validation images": (
        ["train.validate={attack: {eps: 0.1, steps: 1001}}"],
        "train.validate.attack.steps: should be at most 1000 (got 1001)",
    ),
    "no head": (
        [
            "objective.tasks=[{distortion: squared_error, head: {name: mlp_decoder, hidden: [8]}}]",
            "views=[{name: adversarial, eps: 0.1}]",
        ],
        "views.0.loss: 'cross_entropy' needs a task with labels",
    ),
    "no head, in a composition": (
        [
            "objective.tasks=[{distortion: squared_error, head: {name: mlp_decoder, hidden: [8]}}]",
            "views=[{name: composition, of: [image, {name: adversarial, eps: 0.1}]}]",
        ],
        "views.0.of.1.loss: 'cross_entropy' needs a task with labels",
    ),
    "a distance of outputs, in a composition": (
        [
            "views=[{name: composition, of: [{name: adversarial, eps: 0.1, loss: posterior,"
            " distance: kl}]}]",
        ],
        "views.0.of.0.distance: kl is a distance of outputs, not of posterior; of posterior: ",
    ),
    "no density, in a composition": (
        [
            "views=[{name: composition, of: [{name: adversarial, eps: 0.1, loss: posterior}]}]",
            "model.stochastic=false",
            "objective.alpha=0",
        ],
        "views.0.of.0.distance: symmetric_kl is infinite where model.stochastic is false",
    ),
    "no head for outputs": (
        [
            "objective.tasks=[{distortion: squared_error, head: {name: mlp_decoder, hidden: [8]}}]",
            CORNERS,
            "objective.matching={of: outputs, distance: kl, gamma: 1}",
        ],
        "outputs are those of a task with labels",
    ),
    "a distance of something else": (
        [CORNERS, "objective.matching={of: outputs, distance: l1, gamma: 1}"],
        "l1 is a distance of posterior, not of outputs; of outputs: kl, norm, squared",
    ),
    "a density where there is none": (
        [
            CORNERS,
            "objective.matching={distance: symmetric_kl, gamma: 1}",
            "model.stochastic=false",
            "objective.alpha=0",
        ],
        "symmetric_kl is infinite where model.stochastic is false; use l1 or wasserstein",
    ),
    "a pair of views that is none": (
        ["objective.tasks=[{distortion: info_nce, head: {name: projection, hidden: [8]}}]"],
        "objective.tasks.0.views: info_nce lies between two views: the recipe must name two",
    ),
    "linearity of a loss between views": (
        [
            CORNERS,
            "objective.tasks=[{distortion: info_nce, head: {name: projection, hidden: [8]}}]",
            "objective.linearity={gamma: 1}",
        ],
        "objective.linearity: is of the first task's loss, which has to be a loss of one view",
    ),
    "second derivatives compiled": (
        [CORNERS, "objective.linearity={gamma: 1}", "train.compile=true"],
        "objective.linearity needs second derivatives",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_refused(case: str) -> None:
    overrides, message = BAD[case]
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits", overrides)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_same_pixels_may_be_compared_where_something_else_differs() -> None:
    other = "objective.matching={distance: l1, gamma: 1, partner: other}"
    corner = "views=[{name: corner, eps: 0.1}, {name: image, around: 0}, image]"
    for overrides in (
        ["views=[image, image]", other],
        [corner, "objective.matching={between: [1, 2], distance: l1, gamma: 1}"],
    ):
        load_recipe("digits", overrides)


def test_views_of_what_is_no_picture_are_refused() -> None:
    chosen = load_recipe("gaussian_source", ["views=[{name: rotation, degrees: 10}]"]).recipe
    with pytest.raises(UsageError, match=r"rotation changes pixels.*holds no pictures"):
        check_views(chosen, build_info(chosen))


SHAMS: dict[str, tuple[Sampler, str]] = {
    "brighter": (lambda images, labels, model, keys: images + 0.5, "pixels from 0.5.* to 1.4"),
    "not_a_number": (lambda images, labels, model, keys: images / 0, "must stay in"),
    "cut": (lambda images, labels, model, keys: images[..., 1:], "another shape"),
}


@pytest.mark.parametrize("name", SHAMS)
def test_a_sampler_that_breaks_its_promise_is_found_before_data_are_read(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sampler, message = SHAMS[name]

    def sham() -> Sampler:
        return sampler

    monkeypatch.setitem(SAMPLERS._factories, "sham", sham)
    chosen: Recipe = load_recipe("digits", ["views=[sham]"]).recipe
    with pytest.raises(UsageError, match=message):
        check_views(chosen, build_info(chosen))


def test_a_sampler_may_ask_for_posteriors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DiagonalGaussian] = []

    def asking() -> Sampler:
        def sampler(images: Tensor, labels: Tensor, model: Encoder, keys: Tensor) -> Tensor:
            seen.append(model.encode(images))
            return images

        return sampler

    monkeypatch.setitem(SAMPLERS._factories, "asking", asking)
    step, batch = step_of("views=[asking]")
    step.views(batch, 0)
    assert seen[0].mu.shape == (8, step.model.latent_dim)
