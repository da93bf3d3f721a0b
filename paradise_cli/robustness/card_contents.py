"""What a card says, whatever it is written in: plain text in parts, the most important first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paradise_cli.attacks.audit.audit import MEANINGS
from paradise_cli.attacks.report import AttackReport, StageRow
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.suite import SUITES
from paradise_cli.core.proportions import Proportion
from paradise_cli.figures.canvas import shortened

TITLE = 40
"""Letters of a model's or a data set's name in the title of a card."""


class Picture(NamedTuple):
    """A PNG, its name, and what is to be seen in it."""

    path: Path
    name: str
    caption: str


class Table(NamedTuple):
    """Rows of as many cells as `head`; those `marked` stand out."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    marked: Sequence[bool] = ()


class Items(NamedTuple):
    """A list, point by point."""

    points: Sequence[str]


Part = str | Picture | Table | Items
"""A string is a paragraph."""


class Card(NamedTuple):
    """A title, the robust accuracy as `headline`, the verdict, what belongs to it, and sections.

    The verdict is a word (`kind`), what it says of gradient masking, and what it means.
    """

    title: str
    headline: str
    kind: str
    masking: str
    meaning: str
    first: Sequence[Part]
    sections: Sequence[tuple[str, Sequence[Part]]]


UNJUDGED = "No test of the audit was made: nothing is known of whether the attacks were fooled."
RESULTS = {
    "pass": "✓ pass",
    "fail": "✗ fail",
    "inconclusive": "? inconclusive",
    "not applicable": "not applicable",
}
# A name that begins another one comes after it: PGD-Rand before PGD.
GLOSSES = {
    "APGD-CE": "follows the gradient, choosing its own step size",
    "APGD-T": "the same towards each of the likeliest wrong classes",
    "FAB-T": "looks for the smallest change that reaches another class",
    "Square": "changes random squares and watches the answers; needs no gradient",
    "Multi-Targeted": "many steps towards every wrong class in turn",
    "Untargeted": "many steps away from the right class, from several random starts",
    "PGD-Rand": "many steps along the gradient towards a wrong class drawn at random",
    "PGD": "many steps along the gradient from a random start",
    "FGSM": "one step along the gradient",
    "R+FGSM": "a random step, then one along the gradient",
    "Step-Rand": "one step towards a wrong class drawn at random",
    "Iter-Rand": "some steps towards a wrong class drawn at random",
}
"""By the beginning of an attack's name, the first that fits."""
# The names of settings in the JSON, for people.
LABELS = {
    "eps": "eps",
    "eps_text": "eps as it is written here",
    "norm": "norm: how a change is measured",
    "suite": "suite of attacks",
    "seed": "seed of all random numbers",
    "given": "images given",
    "images_sha256": "index hash: SHA-256 of images and labels",
    "width": "images in a batch",
    "precision": "arithmetic of gradients",
    "compiled": "search in a compiled copy",
    "paradise": "version of PARADISE",
    "ci": "interval asked for, ±",
    "budget": "time allowed, seconds",
    "audited": "images audited",
    "seconds": "time taken, seconds",
}
# For readers who have never met an attack: a card is passed on.
WORDS = (
    "Adversarial image: one changed, so little that people hardly see it, until the model reads it"
    " wrongly.",
    "Robust accuracy: the share of images read rightly whatever the attacks tried. An image that"
    " is misread without attack counts as broken. Stronger attacks can only lower it.",
    "95% interval: computed from other images drawn in the same way, it would hold the true share"
    " in about 95 of 100 cases. Wilson and Clopper-Pearson are two ways to compute it.",
    "eps: the largest change that the attacker is allowed. The norm says how a change is measured:"
    " linf by the pixel that changes most, l2 by the Euclidean length of the changes of all"
    " pixels.",
    "Gradient: which way to change each pixel to mislead the model most. A model whose gradients"
    " say nothing looks robust without being so; that is gradient masking, and what the audit"
    " looks for.",
    "Upper bound: the audit has shown that the attacks were misled. The true accuracy is lower, and"
    " nobody knows by how much.",
    "Margin, CE (cross-entropy), DLR: three measures of how wrong the model is, which attacks try"
    " to raise.",
)


def contents(
    report: AttackReport, model: str, data: str, pictures: Sequence[Picture], title: str
) -> Card:
    """The card of a report on `model` and `data`, as people call them; `title` is the model's."""
    sections: list[tuple[str, Sequence[Part]]] = [
        ("Pictures", pictures),
        ("Attacks", [_how(report), _attacks(report), *_transfer(report)]),
        ("Accuracy at each eps", [_curve(report)]),
        ("Audit", _audit(report)),
        ("Notes", [_unfinished(report), *([Items(report.notes)] if report.notes else [])]),
        ("What these numbers rest on", [_basis(report, data), _settings(report, model, data)]),
        ("Words", [Items(WORDS)]),
    ]
    # Above everything else: a number that may still fall must not be read as the last one.
    first: list[Part] = [_unfinished(report)] if report.unfinished else []
    first.append(_numbers(report))
    # "Not detected" without a single test would vouch for what nobody looked at.
    kind, masking, meaning = "not judged", "", UNJUDGED
    if report.audit.rows:
        kind, masking, meaning = report.verdict, report.audit.summary, MEANINGS[report.verdict]
        first.append(_tally(report))
    if report.audit.evidence:
        first.append(Items(report.audit.evidence))
    heading = f"Robustness of {_short(title)} on {_short(data)}"
    robust = report.robust_accuracy
    so_far = " so far" if report.unfinished else ""
    headline = f"{_left(report, robust)}: robust accuracy{so_far} ({_span(robust)})"
    return Card(heading, headline, kind, masking, meaning, first, sections)


def size_of_change(size: float, settings: AttackSettings) -> str:
    """A distance in words short enough for a caption."""
    return f"{'up to' if settings.norm == 'linf' else 'length'} {settings.words_for(size)}"


def _numbers(report: AttackReport) -> Table:
    settings = report.settings
    eps = settings.eps_text
    # In words, as eps says nothing to most readers.
    if settings.norm == "linf":
        threat = f"no pixel changes by more than {eps} of the way from black to white"
    else:
        threat = f"the changes of all pixels, squared and summed, stay below the square of {eps}"
    n = f"{len(report.rows):,}"
    rows = [
        (
            "Robust accuracy",
            _under_attack(report, report.robust_accuracy),
            f"{report.interval} interval, n = {n} images",
        ),
        ("Attacker", f"eps = {eps}, norm {settings.norm}", threat),
        ("Clean accuracy", _with_span(report.clean_accuracy), "without any attack, same images"),
        (
            "As 8-bit images",
            _under_attack(report, report.lattice_accuracy),
            "the attacked images rounded to steps of 1/255, as image files hold them",
        ),
    ]
    return Table(("What", "Measured", "Meaning"), rows, (True, False, False, False))


def _how(report: AttackReport) -> str:
    # A report may come from a suite that this version no longer has.
    suite = SUITES.get(report.settings.suite)
    if suite is None or not suite.independent:
        return (
            "Each attack was made on the images that those before it, and all attacks at a smaller"
            " eps, had left standing; its row says what was left after it."
        )
    text = (
        "Each attack was made on its own. Robust accuracy counts an image only if it"
        " withstood all of them."
    )
    if suite.transfer:
        text += (
            " All images were made on other models: an attacker who holds this model itself can do"
            " more, so the robust accuracy above says nothing of such an attacker."
        )
    return text


def _attacks(report: AttackReport) -> Table:
    rows = []
    for stage in report.stages:
        # A target reached is a success of the attack: no accuracy, and no bound of one.
        left = _left(report, stage.share)
        if stage.reaches_target:
            left = f"{_percent(stage.share.value)} reached their target"
        counts = (f"{stage.attacked:,}", f"{stage.broken:,}")
        rows.append((stage.shown, *counts, left, _span(stage.share), _gloss(stage)))
    return Table(
        ("Attack", "Made on", "Broke", "Accuracy left", "95% interval", "What it does"), rows
    )


def _gloss(stage: StageRow) -> str:
    # An attack from outside the package has a name, and nothing is known of what it does.
    gloss = next((text for name, text in GLOSSES.items() if stage.attack.startswith(name)), "")
    there = f"made on {stage.source}, shown to this model" if stage.source else ""
    return "; ".join(filter(None, (gloss, there)))


def _transfer(report: AttackReport) -> list[Part]:
    least = report.lowest_transfer
    if least is None:
        return []
    # The literature reports the minimum of means; beside ours readers would take one for the other.
    return [
        f"The lowest accuracy under one transferred attack is {_left(report, least.share)}"
        f" ({least.name}). The worst case of each image over all attacks gives"
        f" {_left(report, report.robust_accuracy)}, which is never higher."
    ]


def _curve(report: AttackReport) -> Table:
    n = f"{len(report.rows):,}"
    words_for = report.settings.words_for
    clean = report.clean_accuracy
    # Accuracy without attack is the curve's beginning.
    rows = [("0", "no attack", _percent(clean.value), _span(clean), n)]
    for eps, share in report.curve:
        suite = f"suite {report.settings.suite}"
        rows.append((words_for(eps), suite, _left(report, share), _span(share), n))
    # The audit attacks fewer images, by one attack: not to be mixed with the suite's.
    for eps, accuracy, images in report.audit.curve:
        share = Proportion.of(round(accuracy * images), images)
        # At eps 0 nothing is attacked, and the number is exact.
        left = _left(report, share) if eps else _percent(accuracy)
        rows.append((words_for(eps), "PGD (audit)", left, _span(share), f"{images:,}"))
    return Table(("eps", "Attack", "Accuracy", "95% interval", "n"), rows)


def _audit(report: AttackReport) -> list[Part]:
    rows = report.audit.rows
    if not rows:
        return [UNJUDGED]
    # So many tests of 5% each: readers should know how often one fails for nothing.
    text = (
        "A test fails only where its one-sided 95% bound lies beyond the threshold: luck alone"
        " does that in at most 1 of 20 cases. It is inconclusive where there were too few images to"
        " tell."
    )
    cells = [
        (f"{r.number}", r.name, RESULTS[r.result], r.measured, r.threshold, f"{r.n:,}", r.meaning)
        for r in rows
    ]
    head = ("#", "Test", "Result", "Measured", "Threshold", "n", "A failure means")
    return [text, Table(head, cells, [row.result == "fail" for row in rows])]


def _tally(report: AttackReport) -> str:
    found = Counter(row.result for row in report.audit.rows)
    return (
        f"Of {len(report.audit.rows)} tests {found['pass']} passed and {found['fail']} failed;"
        f" {found['inconclusive']} had too few images to decide and {found['not applicable']} do"
        " not apply to this model."
    )


def _unfinished(report: AttackReport) -> str:
    if not report.unfinished:
        return "All attacks were finished."
    return (
        f"Time ran out before these attacks were finished: {', '.join(report.unfinished)}. More"
        " images may break: the robust accuracy is only what is left so far."
    )


def _basis(report: AttackReport, data: str) -> str:
    return (
        f"The attacks were made on the same {len(report.rows):,} images of {data}, the audit on as"
        " many of them as its tables say. All intervals are Wilson's, of 95%, but where another is"
        " named. card.json has every number, and for each image what broke it."
    )


def _settings(report: AttackReport, model: str, data: str) -> Table:
    rows = [("model", model), ("data", data), ("images attacked (n)", f"{len(report.rows)}")]
    document = report.settings_document()
    # Whatever is recorded is shown, also where nobody has put a name to it yet.
    rows += [(LABELS.get(name, name), value) for name, value in _flat(document)]
    return Table(("Setting", "Value"), rows)


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Names and values as text; those of a mapping within are named after it."""
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((before + name, _text(value)))
    return found


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else f"{value}"


def _short(name: str) -> str:
    """A name for a title: of a path its end, which tells runs apart."""
    # The whole name stands among the settings.
    end = name.rstrip("/").rpartition("/")[2]
    return shortened(end or name, TITLE)


def _left(report: AttackReport, share: Proportion) -> str:
    """An accuracy under attack; where the audit found it too high, with the words that say so."""
    return f"{_percent(share.value)}, {report.bound}" if report.bound else _percent(share.value)


def _under_attack(report: AttackReport, share: Proportion) -> str:
    return f"{_with_span(share)}, {report.bound}" if report.bound else _with_span(share)


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _span(share: Proportion) -> str:
    return f"{share.low:.2%} to {share.high:.2%}"


def _with_span(share: Proportion) -> str:
    return f"{_percent(share.value)} ({_span(share)})"
