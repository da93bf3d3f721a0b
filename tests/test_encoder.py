"""The stochastic encoder: its posterior, its classifier, and what it refuses."""

import pytest
import torch

from paradise_cli.core.errors import ParadiseError, UsageError
from paradise_cli.core.randomness import normal_draws
from paradise_cli.models import StochasticEncoder
from tests.test_models import FAMILIES, images, make


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mean": [0.5, 0.5]}, "mean has 2 values, the images have 1 channels"),
        ({"std": [0.0]}, "std must be positive"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, not 0"),
    ],
)
def test_impossible_encoders_are_refused(options, message):
    model = make()
    with pytest.raises(UsageError, match=message):
        StochasticEncoder(model.backbone, {}, **{"latent_dim": 3, "in_shape": (1, 8, 8), **options})


@pytest.mark.parametrize("name", ["a.b", "", "type", "training"])
def test_head_names_that_cannot_be_stored_are_refused(name):
    model = make()
    with pytest.raises(UsageError, match="a task cannot be named"):
        StochasticEncoder(
            model.backbone, {name: model.heads["task0"]}, latent_dim=3, in_shape=(1, 8, 8)
        )


def test_images_of_another_shape_are_refused():
    with pytest.raises(ParadiseError, match="the model reads images 1x8x8, not 1x8x9"):
        make().encode(torch.zeros(2, 1, 8, 9))


def test_normalisation_is_the_first_layer_and_saved():
    """DVIB's 2x - 1 is mean .5 and std .5."""
    plain, dvib = make(), make(mean=[0.5], std=[0.5])
    x = images((1, 8, 8))
    torch.testing.assert_close(dvib.encode(x).mu, plain.encode(2 * x - 1).mu)
    assert {"mean", "std"} <= set(dvib.state_dict())
    plain.load_state_dict(dvib.state_dict())
    assert torch.equal(plain.encode(x).mu, dvib.encode(x).mu)


def test_sigma_is_shifted_softplus_plus_floor():
    model = make(sigma_shift=5.0, sigma_floor=0.01).double()
    x = images((1, 8, 8))
    rho = model.rho(model.backbone(x.double()))
    posterior = model.encode(x)
    torch.testing.assert_close(posterior.sigma, torch.log1p(torch.exp(rho - 5)) + 0.01)
    assert posterior.sigma.dtype == posterior.mu.dtype == torch.float64
    noise = torch.randn(4, 3)
    torch.testing.assert_close(model(x, noise)[1], posterior.mu + posterior.sigma * noise)


def test_deterministic_model_starts_from_the_same_weights():
    stochastic, standard = make(), make(stochastic=False)
    own, other = stochastic.state_dict(), standard.state_dict()
    assert set(own) - set(other) == {"rho.weight", "rho.bias"}
    assert all(torch.equal(own[key], value) for key, value in other.items())
    posterior, z, outputs = standard(images((1, 8, 8)), torch.randn(4, 3))
    assert (posterior.sigma == 0).all() and torch.equal(z, posterior.mu)
    outputs["task0"].sum().backward()
    assert all(p.grad is not None for p in standard.parameters())


def test_gradient_reaches_every_parameter():
    model = make(
        "preact_resnet", {"depth": 8}, (3, 16, 16), ["linear", ("conv_decoder", {"width": 1})]
    )
    _, _, outputs = model(images((3, 16, 16)), torch.randn(4, 3))
    sum(out.square().sum() for out in outputs.values()).backward()
    # A bias in front of a batch norm has no effect, every other parameter does.
    dead = {name for name, p in model.named_parameters() if not p.grad.abs().sum() > 1e-4}
    assert not {name for name in dead if not name.endswith(".bias")}
    assert model.rho.bias.grad.abs().sum() > 0


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_classifier_is_the_log_of_the_mean_probability(samples):
    model = make().double()
    x = images((1, 8, 8))
    got = model.classifier(samples, seed=3)(x)
    posterior = model.encode(x)
    noise = normal_draws(torch.zeros(1, dtype=torch.int64), samples, 3, 3, "classifier")[0]
    draws = [posterior.rsample(e) for e in noise] if samples else [posterior.mu]
    expected = torch.stack([model.decode(z)["task0"].softmax(1) for z in draws]).mean(0)
    torch.testing.assert_close(got.exp(), expected)
    torch.testing.assert_close(got.exp().sum(1), torch.ones(4, dtype=torch.float64))
    assert torch.equal(got, model.classifier(samples, seed=3)(x))
    if samples:
        assert not torch.equal(got, model.classifier(samples, seed=4)(x))


@pytest.mark.parametrize("samples", [0, 7])
def test_classifier_shows_the_way_through_its_latents(samples):
    model = make().train()
    classify, x = model.classifier(samples), images((1, 8, 8))
    posterior = classify.posterior(x)
    assert all(map(torch.equal, posterior, model.encode_settled(x)))
    noise = normal_draws(torch.zeros(1, dtype=torch.int64), 7, 3, 0, "classifier")[0][:samples]
    draws = posterior.rsample(noise[:, None]) if samples else posterior.mu[None]
    each = torch.stack([classify.classify(z) for z in draws])
    torch.testing.assert_close(each.exp().sum(2), torch.ones(max(samples, 1), 4))
    torch.testing.assert_close(each.exp().mean(0), classify(x).exp())
    assert model.training


@pytest.mark.parametrize("samples", [0, 3])
def test_classifier_is_differentiable_in_the_pixels(samples):
    model = make(shape=(1, 2, 2)).double()
    x = images((1, 2, 2), 2, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(model.classifier(samples), x)


@pytest.mark.parametrize("backbone, hyper, shape, features", FAMILIES)
def test_classifier_ignores_neighbours_and_restores_modes(backbone, hyper, shape, features):
    model = make(backbone, hyper, shape).train()
    frozen = next(m for m in model.modules() if not list(m.children()))
    frozen.eval()
    modes = {name: m.training for name, m in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = images(shape)
    others = torch.cat([x[:1], 1 - x[1:]])
    classify = model.classifier(samples=2)
    assert torch.equal(classify(x)[0], classify(others)[0])
    with pytest.raises(ParadiseError):
        classify(x[:, :, 1:])
    assert modes == {name: m.training for name, m in model.named_modules()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_settled_posterior_is_that_of_eval_mode_and_leaves_no_trace():
    model = make("preact_resnet", {"depth": 8}, (3, 16, 16)).train()
    model(images((3, 16, 16)), torch.zeros(4, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = images((3, 16, 16), 2).requires_grad_()
    posterior = model.encode_settled(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    posterior.mu.sum().backward()
    assert x.grad.abs().max() > 0 and model.mu.weight.grad.abs().max() > 0
    torch.testing.assert_close(posterior.mu, model.eval().encode(x).mu)


def test_classifier_names_the_heads_to_choose_from():
    two = make(heads=["linear", ("mlp_decoder", {"hidden": []}), "linear"])
    with pytest.raises(
        ParadiseError, match="several classification heads; say which one of: task0, task2"
    ):
        two.classifier()
    with pytest.raises(ParadiseError, match=r"no classification head 'task1'.*: task0, task2"):
        two.classifier(head="task1")
    assert two.classifier(head="task2")(images((1, 8, 8))).shape == (4, 5)
    with pytest.raises(ParadiseError, match="no classification head, only: task0"):
        make(heads=[("mlp_decoder", {"hidden": []})]).classifier()
    with pytest.raises(UsageError, match="samples must be 0"):
        make().classifier(samples=-1)


@pytest.mark.parametrize("backbone, hyper, shape, features", FAMILIES)
def test_autocast_leaves_the_posterior_in_single_precision(backbone, hyper, shape, features):
    decoder = ("mlp_decoder", {"hidden": [8]})
    model = make(backbone, hyper, shape, ["linear", decoder]).eval()
    x = images(shape)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = model.backbone(x)
        assert "resnet" not in backbone or reduced.dtype == torch.float32
        posterior, z, outputs = model(x, torch.zeros(4, 3))
    for value in (*posterior, z, *outputs.values()):
        assert value.dtype == torch.float32
    assert torch.equal(posterior.mu, model.mu(reduced.float()))
