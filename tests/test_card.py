"""The robustness card: everything is on it, nothing comes from elsewhere, and no user's text is
code.
"""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from paradise_cli.attacks import attack, run
from paradise_cli.attacks.audit.audit import Audit, AuditRow
from paradise_cli.attacks.report import CLEAN, AttackReport, Provenance, Spent, StageRow
from paradise_cli.attacks.session.settings import AttackSettings
from paradise_cli.attacks.session.suite import SUITES, Stage, Suite
from paradise_cli.core.errors import UsageError
from paradise_cli.core.proportions import Proportion
from paradise_cli.core.randomness import generator
from paradise_cli.robustness import pictures
from paradise_cli.robustness.card import write_card
from paradise_cli.robustness.card_contents import Table, contents, size_of_change
from tests.attack_cases import Linear

EPS = 8 / 255
SPENT = Spent(1.5, (350.5, 170.0), (90.25, 40.0))
RESULTS = ("pass", "fail", "inconclusive", "not applicable")
HOSTILE = '<script src="https://a.example/x.js"></script>&amp;|`*$x_1'
CHECKS = Audit(
    "suspect",
    ("row 2: 3 images fell only to Square",),
    tuple(
        AuditRow(
            i,
            f"check {i}",
            RESULTS[i % 4],
            f"measured {i}.5%",
            f"<= {i}.1%",
            f"meaning {i}",
            100 + i,
        )
        for i in range(1, 15)
    ),
    ((4 / 255, 0.8, 200), (EPS, 0.745, 200), (64 / 255, 0.0, 200)),
)


def made(
    n: int = 1000, stands: int = 720, channels: int = 3, **other: object
) -> tuple[AttackReport, torch.Tensor]:
    """A report on n of n + 5 images: the first stand, the last 10 are misread, the others fell to
    APGD-CE.
    """
    images = torch.rand(n + 5, channels, 6, 6, generator=generator("card", channels))
    standing = torch.arange(n) < stands
    signs = torch.where(images > 0.5, -1.0, 1.0)[:n]
    moved = torch.where(standing.view(-1, 1, 1, 1), images[:n], images[:n] + EPS * signs)
    names = [None if i < stands else CLEAN if i >= n - 10 else "APGD-CE" for i in range(n)]
    report = AttackReport(
        clean_accuracy=Proportion.of(n - 10, n),
        robust_accuracy=Proportion.of(stands, n),
        interval="Wilson 95%",
        stages=(StageRow("APGD-CE", n - 10, n - 10 - stands, Proportion.of(stands, n)),),
        curve=((EPS, Proportion.of(stands, n)),),
        verdict="suspect",
        audit=CHECKS,
        rows=torch.arange(n),
        standing=standing,
        broken_by=tuple(names),
        adversarial=moved,
        distance=torch.where(standing, 0.0, EPS),
        lattice=moved,
        lattice_accuracy=Proportion.of(stands + 1, n),
        unfinished=(),
        notes=(),
        predicted=torch.where(standing, 0, 1),
        settings=AttackSettings(eps=EPS, seed=7),
        provenance=Provenance(n + 5, "f00d" * 16, 64, "9.8.7", {"device": "cpu"}, SPENT),
    )
    return replace(report, **other), images


class Page(HTMLParser):
    """What a browser would see: tags, addresses, text, and the tables as lists of rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [
            given[name] for name in ("src", "href", "srcset", "action") if name in given
        ]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        return next(table[1:] for table in self.tables if table[0][: len(head)] == list(head))


def written(folder, report, images, classes=None, model="net", data="toy"):
    labels = torch.arange(len(images)) % 3
    paths = write_card(report, images, labels, folder, model=model, data=data, classes=classes)
    assert sorted(paths) == sorted(folder.iterdir())
    return Page((folder / "card.html").read_text())


@pytest.fixture
def card(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    report, images = made()
    return folder, report, written(folder, report, images)


@pytest.mark.usefixtures("pictures")
def test_the_page_needs_nothing_but_itself(card):
    folder, _, page = card
    text = (folder / "card.html").read_text()
    assert not re.search(
        r"https?:|//|url\(|@import|<script|<link", re.sub(r"base64,[^\"]*", "", text)
    )
    assert "default-src 'none'" in text
    pictures = {path.read_bytes() for path in folder.glob("card-*.png")}
    assert len(pictures) == 3
    assert {
        base64.b64decode(each.removeprefix("data:image/png;base64,")) for each in page.addresses
    } == pictures


def test_what_matters_most_comes_first(card):
    """720 of 1000: 69.1% to 74.7% (method.md 7)."""
    _, _, page = card
    numbers = dict(row[:2] for row in page.table("What", "Measured"))
    assert re.fullmatch(r"72\.00% \(69\.1\d% to 74\.[67]\d%\)", numbers["Robust accuracy"])
    assert numbers["Clean accuracy"].startswith("99.00% (")
    assert numbers["As 8-bit images"].startswith("72.10% (")
    assert numbers["Attacker"] == "eps = 8/255, norm linf"
    # Seven of the fourteen pass or fail, four are inconclusive and three do not apply.
    masking = "gradient masking: suspected (7 of 11 tests decided)"
    order = [
        "72.00%: robust accuracy", "Verdict: suspect", masking, "less robust", "n = 1,000", "Of 14",
        "only to Square", "Pictures",
    ]  # fmt: skip
    places = [page.text.index(part) for part in order]
    assert places == sorted(places)
    # Of 1 to 14, four are 1 modulo 4, four 2, three 3 and three 0.
    assert "3 passed and 4 failed; 4 had too few images to decide and 3 do not apply" in page.text


@pytest.mark.usefixtures("pictures")
def test_eps_is_written_in_one_way_wherever_it_stands(tmp_path, monkeypatch):
    """0.1 is 25.5 steps of 1/255, 0.05 are 12.75 and 0.15 are 38.25."""
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: drawn.append(figure))
    share = Proportion.of(720, 1000)
    audit = replace(CHECKS, curve=((0.0, 0.9, 200), (0.05, 0.8, 200), (0.1, 0.5, 200)))
    report, _ = made(
        settings=AttackSettings(eps=0.1, curve=(0.05, 0.15)),
        curve=((0.05, share), (0.1, share), (0.15, share)),
        audit=audit, distance=torch.full((1000,), 0.05),
    )  # fmt: skip
    pictures.draw_accuracy(report, tmp_path / "accuracy.png")
    (axes,) = drawn[0].axes
    assert {label.get_text() for label in axes.get_xticklabels()} == {"0", "12.75", "25.5", "38.25"}
    monkeypatch.undo()
    card = contents(report, "net", "toy", (), "net")
    numbers, _, curve = [part for part in _parts(card) if isinstance(part, Table)][:3]
    assert numbers.rows[1][1] == "eps = 25.5/255, norm linf"
    assert "by more than 25.5/255 of the way from black to white" in numbers.rows[1][2]
    assert [row[0] for row in curve.rows] == [
        "0", "12.75/255", "25.5/255", "38.25/255", "0", "12.75/255", "25.5/255"
    ]  # fmt: skip
    assert size_of_change(0.05, report.settings) == "up to 12.75/255"
    assert size_of_change(0.05, AttackSettings(eps=1, norm="l2")) == "length 0.05"


def _parts(card):
    return [*card.first, *(part for _, parts in card.sections for part in parts)]


def test_nothing_is_said_twice_or_of_nothing():
    report, _ = made(12, 6)
    card = contents(report, "runs/a/model.safetensors", "toy", (), "a")
    assert card.title == "Robustness of a on toy"
    assert ("Notes", ["All attacks were finished."]) in card.sections
    basis = dict(card.sections)["What these numbers rest on"]
    assert basis[0].count("Wilson") == 1
    assert dict(basis[1].rows)["model"] == "runs/a/model.safetensors"
    assert dict(basis[1].rows)["search in a compiled copy"] == "no"


def test_every_row_of_the_audit_is_on_it(card):
    folder, _, page = card
    shown = {
        "pass": "✓ pass",
        "fail": "✗ fail",
        "inconclusive": "? inconclusive",
        "not applicable": "not applicable",
    }
    wanted = [
        [str(r.number), r.name, shown[r.result], r.measured, r.threshold, str(r.n), r.meaning]
        for r in CHECKS.rows
    ]
    assert page.table("#", "Test") == wanted
    assert (folder / "card.html").read_text().count('<tr class="marked">') == 4 + 1


def test_attacks_curve_and_settings_are_on_it(card):
    _, _, page = card
    (row,) = page.table("Attack", "Made on")
    assert row[:4] == ["APGD-CE", "990", "270", "72.00%"]
    assert "gradient" in row[5]
    curve = page.table("eps", "Attack", "Accuracy")
    assert [(each[0], each[2], each[4]) for each in curve] == [
        ("0", "99.00%", "1,000"), ("8/255", "72.00%", "1,000"),
        ("4/255", "80.00%", "200"), ("8/255", "74.50%", "200"), ("64/255", "0.00%", "200"),
    ]  # fmt: skip
    settings = dict(page.table("Setting", "Value"))
    assert settings["data"] == "toy"
    assert settings["seed of all random numbers"] == "7"
    assert settings["version of PARADISE"] == "9.8.7"
    assert settings["machine.device"] == "cpu"
    assert "f00d" * 16 in settings.values()


def test_json_is_the_report(card):
    folder, report, _ = card
    assert json.loads((folder / "card.json").read_text()) == json.loads(
        json.dumps(report.to_json())
    )


def markdown_tables(text):
    """Tables as rows of cells, undone of backslashes."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    cut = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return [
        [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for row in table] for table in cut
    ]


def test_markdown_says_the_same(card):
    folder, _, page = card
    text = (folder / "card.md").read_text()
    tables = markdown_tables(text)
    assert [[table[0], *table[2:]] for table in tables] == page.tables
    assert all(set(table[1]) == {"---"} for table in tables)
    assert sorted(re.findall(r"\]\((.*?)\)", text)) == sorted(
        path.name for path in folder.glob("*.png")
    )


def test_text_of_users_stays_text(tmp_path):
    stages = (StageRow("FGSM", 20, 5, Proportion.of(15, 20), source=HOSTILE),)
    row = replace(CHECKS.rows[0], measured=HOSTILE, meaning=HOSTILE)
    report, images = made(
        30, 10, stages=stages, notes=(HOSTILE,), unfinished=(HOSTILE,),
        audit=replace(CHECKS, evidence=(HOSTILE,), rows=(row,)), broken_by=(HOSTILE,) * 30,
    )  # fmt: skip
    page = written(tmp_path, report, images, classes=[HOSTILE] * 3, model=HOSTILE, data=HOSTILE)
    assert "script" not in page.tags
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert page.text.count(HOSTILE) >= 8
    assert page.table("#", "Test")[0][6] == HOSTILE
    text = (tmp_path / "card.md").read_text()
    assert not re.search(r"(?<!\\)[<`*$]", text.replace("**", ""))
    assert [[table[0], *table[2:]] for table in markdown_tables(text)] == page.tables


@pytest.mark.parametrize(
    ("verdict", "meaning"),
    [
        ("not detected", "no sign that the attacks were fooled; that is no proof of robustness"),
        ("obfuscated", "the number must not be quoted as robustness"),
    ],
)
def test_a_verdict_says_what_it_means(tmp_path, monkeypatch, verdict, meaning):
    report, images = made(12, 6, verdict=verdict, unfinished=("Square",), notes=("a remark",))
    page = written(tmp_path, report, images)
    assert f"Verdict: {verdict}" in page.text
    assert meaning in page.text
    assert page.text.index("before these attacks were finished: Square") < page.text.index(
        "Robust accuracy"
    )
    assert "a remark" in page.text


def test_without_an_audit_nothing_is_vouched_for(tmp_path):
    report, images = made(
        12, 11, 1, verdict="not detected", audit=Audit("not detected", (), (), ())
    )
    page = written(tmp_path, report, images)
    assert "Verdict: not judged" in page.text
    assert "not detected" not in page.text


@pytest.mark.usefixtures("pictures")
def test_transferred_attacks_stand_beside_the_white_box(tmp_path):
    """The lowest mean is 15 of 20, the worst case of each image 12; PGD on the model itself left
    74.5%.
    """
    stages = tuple(
        StageRow(name, 20, 20 - left, Proportion.of(left, 20), source=source)
        for name, source, left in (("FGSM", "a", 18), ("FGSM", "b", 17), ("PGD margin", "a", 15))
    )
    report, images = made(20, 12, stages=stages)
    report = replace(report, settings=AttackSettings(eps=EPS, suite="transfer"))
    assert pictures.white_box(report) == ("PGD on 200 images", Proportion.of(149, 200))
    page = written(tmp_path, report, images)
    assert (tmp_path / "card-transfer.png").exists()
    assert "one transferred attack is 75.00% (PGD margin from a)" in page.text
    assert "over all attacks gives 60.00%" in page.text
    assert "says nothing of such an attacker" in page.text
    mixed = replace(report, stages=(*stages, StageRow("APGD-CE", 20, 8, Proportion.of(12, 20))))
    assert pictures.white_box(mixed) == ("APGD-CE", Proportion.of(12, 20))
    alone = replace(report, audit=replace(CHECKS, curve=()))
    assert not pictures.draw_transfer(alone, tmp_path / "none.png")


@pytest.mark.usefixtures("pictures")
def test_a_change_is_magnified_until_the_largest_is_black_or_white(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        pictures, "draw_captioned", lambda blocks, path, columns: drawn.extend(blocks)
    )
    report, images = made(40, 10)
    names, seen = [f"{i}" for i in range(40)], [f"a{i % 2}" for i in range(40)]
    assert pictures.draw_images(
        report, images[:40], names, seen, tmp_path / "a.png", lambda size: f"{size:.4f}"
    )
    clean, attacked, change, standing = drawn
    assert clean.captions == ["10", "15", "20", "25"]  # 20 fell, of which every fifth
    # The class that the model sees, and below it what broke the image.
    assert attacked.captions == ["a0\nAPGD-CE", "a1\nAPGD-CE"] * 2
    assert set(change.captions) == {"0.0314"}
    assert "16 times" in change.heading  # 0.5 / (8 / 255) = 15.94
    expected = torch.where(clean.images > 0.5, 0.0, 1.0)
    torch.testing.assert_close(change.images, expected, atol=1e-4, rtol=0)
    assert standing.captions == ["0", "2", "4", "6"]
    drawn.clear()
    stage = StageRow("FGSM", 40, 30, Proportion.of(10, 40), source="runs/a/model.safetensors")
    moved = replace(report, stages=(stage,), broken_by=(stage.name,) * 40)
    pictures.draw_images(moved, images[:40], names, seen, tmp_path / "a.png", str)
    assert {caption.splitlines()[1] for caption in drawn[1].captions} == {"FGSM"}
    odd, two = made(12, 6, channels=2)
    assert not pictures.draw_images(odd, two[:12], names, seen, tmp_path / "b.png", str)


def test_equal_reports_give_equal_bytes(tmp_path):
    settings = AttackSettings(eps=0.5, norm="l2", suite="paper")
    report, images = made(12, 0, 2, settings=settings, curve=((0.5, Proportion.of(0, 12)),))
    for name in ("a", "b"):
        page = written(tmp_path / name, report, images)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("a", "b")
    )
    assert first == second
    assert "card-images.png" not in first  # two channels are no picture
    assert [row[0] for row in page.table("eps", "Attack")][:2] == ["0", "0.5"]
    assert "norm l2" in page.text


@pytest.mark.usefixtures("pictures")
def test_words_stay_whole_and_names_are_short(tmp_path, monkeypatch):
    drawn, draw = [], pictures.draw_captioned

    def watched(blocks, path, *, columns):
        drawn.extend(blocks)
        draw(blocks, path, columns=columns)

    monkeypatch.setattr(pictures, "draw_captioned", watched)
    report, images = made(40, 10)
    labels = torch.arange(len(images)) % 3
    classes = ("tench, Tinca tinca", "goldfish, Carassius auratus", "white shark")
    write_card(
        report, images, labels, tmp_path, model="runs/a/long/way/mine", data="toy", classes=classes
    )
    text = (tmp_path / "card.html").read_text()
    assert "<h1>Robustness of mine on toy</h1>" in text
    assert "overflow-wrap: anywhere" not in text.replace("td.long { overflow-wrap: anywhere; }", "")
    # Of all cells the digest alone is no word.
    assert re.findall(r'<td class="long"[^>]*>([^<]*)', text) == ["f00d" * 16]
    clean, attacked, _, standing = drawn
    assert {*clean.captions, *standing.captions} <= {"tench", "goldfish", "white shark"}
    # Whatever was broken is seen as class 1.
    assert {caption.splitlines()[0] for caption in attacked.captions} == {"goldfish"}


def test_a_report_says_itself_in_a_line():
    report, _ = made(50, 36)
    assert repr(report) == (
        "AttackReport(robust accuracy 72.0% of 50 images, clean 80.0%;"
        " gradient masking: suspected (7 of 11 tests decided))"
    )
    bound = replace(report, verdict="obfuscated")
    assert "robust accuracy 72.0%, upper bound, of 50 images" in repr(bound)


def test_other_images_are_refused(tmp_path):
    report, images = made(12, 6)
    for wrong in (images[:11], images[..., :5]):
        with pytest.raises(UsageError, match="give those that were attacked"):
            written(tmp_path, report, wrong)
    assert not list(tmp_path.iterdir())


def test_the_card_of_an_attack_states_the_exact_accuracy(tmp_path, monkeypatch):
    """FGSM is exact for two classes and a linear classifier: the share of radii above eps."""
    monkeypatch.setitem(SUITES, "quick", Suite((Stage("fgsm", {}, "FGSM"),)))
    monkeypatch.setattr(run, "audit", lambda *given, **named: CHECKS)
    model = Linear(2, seed=3)
    images, labels = model.problem(40, seed=4)
    radius = model.radius(images, labels, "linf")
    eps = float(radius.sort().values[24:26].mean())  # 25 of 40 fall
    found = attack(model, images, labels, eps=eps, suite="quick", curve=(0.5 * eps,))
    write_card(found, images, labels, tmp_path, model="linear", data="toy", classes=("a", "b"))
    page = Page((tmp_path / "card.html").read_text())
    left = int((radius > 0.5 * eps).sum())
    assert dict(row[:2] for row in page.table("What", "Measured"))["Robust accuracy"].startswith(
        "37.50% ("
    )
    assert page.table("Attack", "Made on")[0][:4] == ["FGSM", str(left), str(left - 15), "37.50%"]
    assert [row[2] for row in page.table("eps", "Attack")][:3] == [
        "100.00%",
        f"{left / 40:.2%}",
        "37.50%",
    ]
    assert json.loads((tmp_path / "card.json").read_text())["robust_accuracy"]["value"] == 0.375
