"""The classifier that `paradise attack` attacks: a model of ours, or anyone's function."""

import importlib
import re
import sys
from dataclasses import dataclass
from inspect import isroutine
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paradise_cli.attacks.audit.canaries import SampledLatents
from paradise_cli.attacks.engine.classifier import Function
from paradise_cli.attacks.engine.introspection import check_values
from paradise_cli.attacks.protocol.foreign import foreign
from paradise_cli.attacks.session.inputs import device_of
from paradise_cli.core.errors import ParadiseError, UsageError, named
from paradise_cli.core.machine import choose_device
from paradise_cli.core.registry import did_you_mean
from paradise_cli.core.user_code import settings_put_back
from paradise_cli.inference.find_model import short_name
from paradise_cli.inference.loading import LoadedModel, load

IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class NamedClassifier:
    """A classifier, its `label` in reports, and its short `name` in paths.

    `loaded` is the model it belongs to if it is one of ours, `head` the one that classifies.
    """

    function: Function
    label: str
    name: str
    loaded: LoadedModel | None = None
    head: str | None = None

    @property
    def title(self) -> str:
        """The name in a heading: of the run or weights, or of the class of somebody's own."""
        if self.loaded is not None:
            return self.name
        # The class of a plain function would say nothing.
        return self.label if isroutine(self.function) else type(self.function).__name__


def open_classifier(
    name: str, *, device: str = "auto", head: str | None = None, sampled: bool = False
) -> NamedClassifier:
    """The classifier of a run folder, weights file or zoo name, or of `package.module:function`.

    The function is called without arguments and returns it. One of ours is judged by the mean of z,
    or with `sampled` by a z drawn anew for every answer. Raises UsageError or ParadiseError for
    what is not there or does not classify.
    """
    # A run folder may have a colon in its name: what exists is meant.
    if IMPORTABLE.fullmatch(name) and not Path(name).exists():
        if head is not None or sampled:
            raise UsageError(
                "--head and --sampled are for models of PARADISE; build yours the way you want it"
            )
        return NamedClassifier(_made(name, device), name, name.replace(":", "-"))
    loaded = load(name, device)
    if sampled and not loaded.model.stochastic:
        raise UsageError(
            f"{loaded.source} is deterministic: there is no z to draw (leave out --sampled)"
        )
    try:
        classifier = loaded.model.classifier(head=head)
    except ParadiseError as error:  # a command may be given several models
        raise type(error)(f"{name}: {error}") from error
    function: Function = SampledLatents(classifier) if sampled else classifier
    head = head or next(n for n, module in loaded.model.heads.items() if module.kind == "logits")
    return NamedClassifier(function, loaded.label, short_name(loaded.source), loaded, head)


def device_for(target: NamedClassifier, device: str) -> torch.device:
    """Where a classifier is asked; one of somebody's own, unless told otherwise, where it is."""
    own = target.loaded is None and device == "auto"
    return device_of(target.function, None if own else device)


def _made(name: str, device: str) -> Function:
    """What the function of that name returns."""
    function = _call(_imported(name), name)
    # A function that is no module has its weights somewhere we cannot reach: it stays there.
    if not isinstance(function, nn.Module):
        return function
    chosen = choose_device(device)
    with foreign(f"when moved to {chosen}"):
        check_values([*function.named_parameters(), *function.named_buffers()])
        moved = function.to(chosen)
    # One of the user's own may return nothing: torch's moves a module in place.
    return moved if callable(moved) else function


def _imported(name: str) -> Any:
    """The function of `package.module:function`."""
    module_name, _, attribute = name.partition(":")
    # `python -m` finds modules of the current folder, a console script does not.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with settings_put_back():
            module = importlib.import_module(module_name)
            # A class counts too: called without arguments, it makes the classifier.
            maker: Any = getattr(module, attribute, None)
    except ImportError as error:
        raise UsageError(
            f"{name}: cannot import {module_name} ({error}); it is looked for in the current"
            " folder and among the installed packages"
        ) from error
    # A script that is imported may also end the program, as without the arguments it expects.
    except (Exception, SystemExit) as error:
        raise ParadiseError(
            f"{name}: importing {module_name} fails: {named(error)} (--debug shows where)"
        ) from error
    if not callable(maker):
        there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(
            f"{name}: {module_name} has no function {attribute}{did_you_mean(attribute, there)}"
        )
    return maker


def _call(maker: Any, name: str) -> Function:
    try:
        with settings_put_back():
            function = maker()
    except (Exception, SystemExit) as error:
        raise ParadiseError(
            f"{name}() fails: {named(error)}; it is called without arguments and must return the"
            " classifier (--debug shows where)"
        ) from error
    if not callable(function):
        raise ParadiseError(
            f"{name}() returned a {type(function).__name__}: it must return a function (or torch"
            " module) from pixels [B, C, H, W] in [0, 1] to logits [B, classes]"
        )
    checked: Function = function  # whether it answers as it should shows when it is examined
    return checked
