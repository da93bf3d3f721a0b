"""`paradise search`: neighbours are exact, near-duplicates are found, mistakes are one message."""

import csv
import errno
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import paradise_cli
from paradise_cli.cli import app
from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.randomness import generator
from paradise_cli.data import DATASETS, decode, header
from paradise_cli.inference.encoding import encode_to_file
from paradise_cli.inference.near_duplicates import confirmed
from paradise_cli.inference.posterior_index import read_index
from paradise_cli.information import neighbours
from paradise_cli.information.gaussian import DiagonalGaussian
from paradise_cli.information.neighbours import BETWEEN, groups, near_pairs, nearest
from paradise_cli.models import BACKBONES
from paradise_cli.models.weights import save_model

from .tiny_model import save_images, save_tiny

PHOTOS = os.environ.get("IMAGENET_SAMPLES")
K = 6


def drawn(n: int, *, near: float = 1.0, seed: int = 0) -> DiagonalGaussian:
    """Posteriors in float32 around a far point, `near` apart, of widths over two decades."""
    draw = generator("search", seed)
    mu = 8 + near * torch.randn(n, K, generator=draw)
    return DiagonalGaussian(mu, near * 10 ** (2 * torch.rand(n, K, generator=draw) - 1))


def by_definition(one: DiagonalGaussian, other: DiagonalGaussian, distance: str) -> np.ndarray:
    """All distances [M, N], from the formulas in numpy's float64."""
    m1, s1, m2, s2 = (part.numpy().astype(float) for part in (*one, *other))
    m1, s1 = m1[:, None], s1[:, None]
    if distance == "wasserstein":
        return np.sqrt(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum(2))
    if distance == "expected_squared":
        return ((m1 - m2) ** 2 + s1**2 + s2**2).sum(2)
    both = s1**2 + s2**2
    return ((m1 - m2) ** 2 / both / 4 + np.log(both / (2 * s1 * s2)) / 2).sum(2)


@pytest.mark.parametrize("distance", BETWEEN)
@pytest.mark.parametrize("near", [1.0, 1e-3])
def test_neighbours_are_those_of_the_definition_whatever_the_blocks(
    distance: str, near: float
) -> None:
    queries, others = drawn(9, near=near, seed=1), drawn(300, near=near)
    wanted = by_definition(queries, others, distance)
    order = wanted.argsort(1, kind="stable")[:, :7]
    for cells in (1, 11 * K, neighbours.CELLS):
        rows, distances = nearest(queries, others, 7, distance, cells=cells)
        assert np.array_equal(rows.numpy(), order)
        np.testing.assert_allclose(distances, np.take_along_axis(wanted, order, 1), rtol=1e-9)


def test_expected_squared_is_that_of_draws() -> None:
    one, other = (DiagonalGaussian(*(p.double()[:1] for p in drawn(1, seed=s))) for s in (2, 3))
    noise = torch.randn(2, 200_000, K, generator=generator("draws"), dtype=torch.float64)
    squares = (one.rsample(noise[0]) - other.rsample(noise[1])).square().sum(1)
    error = float(squares.std()) / 200_000**0.5
    assert abs(float(BETWEEN["expected_squared"](one, other)) - float(squares.mean())) < 4 * error


def test_of_equally_near_the_lower_row_comes_first() -> None:
    same = DiagonalGaussian(torch.ones(50, 2), torch.ones(50, 2))
    for cells in (2, 14, 1000):
        rows, distances = nearest(DiagonalGaussian(*(p[:1] for p in same)), same, 9, "overlap",
                                  cells=cells)  # fmt: skip
        assert rows.tolist() == [[*range(9)]] and not distances.any()
    assert nearest(same, same, 99, "overlap")[0].shape == (50, 50)


@pytest.mark.parametrize("near", [1.0, 1e-3])
@pytest.mark.parametrize("rows", [7, 64, 1024])
def test_all_near_pairs_are_found_whatever_the_blocks(rows: int, near: float) -> None:
    posterior = drawn(120, near=near)
    wanted = by_definition(posterior, posterior, "overlap")
    limit = float(np.quantile(wanted, 0.1))
    first, second = np.nonzero(np.triu(wanted <= limit, 1))
    assert len(first) > 100
    counted: list[int] = []
    pairs, distances = near_pairs(posterior, limit, rows=rows, progress=counted.append)
    assert sorted(pairs.tolist()) == np.stack([first, second], 1).tolist()
    np.testing.assert_allclose(distances, wanted[pairs[:, 0], pairs[:, 1]], rtol=1e-9, atol=1e-12)
    assert (distances.diff() >= 0).all() and sum(counted) == 120


def test_posteriors_that_tell_nothing_apart_are_not_a_million_pairs(monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 100)
    same = DiagonalGaussian(torch.zeros(50, 2), torch.ones(50, 2))
    with pytest.raises(ParadiseError, match="more than 100 pairs overlap"):
        near_pairs(same, 0.0)


def test_groups_are_what_pairs_connect() -> None:
    pairs = torch.tensor([[7, 9], [0, 3], [3, 5], [1, 2], [0, 5]])
    assert groups(pairs) == [[0, 3, 5], [1, 2], [7, 9]]
    assert groups(pairs[:0]) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors"))


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve photos, and an exact copy of two of them."""
    monkeypatch.chdir(tmp_path)
    save_images(Path("photos"), 12)
    for number in (1, 2):
        (source,) = Path("photos").rglob(f"{number:03d}.png")
        Path(f"photos/copy-{number}.png").write_bytes(source.read_bytes())
    return Path("photos")


def changed_weights(model: str, path: Path, factor: float) -> None:
    """The model with other weights of its posterior."""
    loaded = paradise_cli.load(model)
    assert loaded.model.rho is not None
    for weight in (loaded.model.mu.weight, loaded.model.rho.weight):
        weight.mul_(factor)
    save_model(path, loaded.model, {
        "recipe": loaded.recipe.resolved(), "data": loaded.info.to_json(), "provenance": {"step": 0}
    })  # fmt: skip


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["search", *map(str, words), "--device", "cpu"])


def found(*words: object) -> dict:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_query_whose_name_is_no_utf_8_is_written_to_a_table(model: str, album: Path) -> None:
    query = Path(os.fsdecode(b"q\xff.png"))
    query.write_bytes((album / "dog/001.png").read_bytes())
    done = run(album, query, "-i", "z.npz", "-m", model, "--top", 1, "--out", "near.csv")
    assert done.exit_code == 0, done.output
    assert "q\\udcff.png" in Path("near.csv").read_text(encoding="utf-8")


@pytest.mark.usefixtures("pictures")
def test_neighbours_of_images_in_the_folder_and_elsewhere(model: str, album: Path) -> None:
    Path("other.png").write_bytes((album / "dog/001.png").read_bytes())
    words = (album, "other.png", album / "dog/001.png", "-i", "z.npz", "-m", model, "--top", 4)
    document = found(*words, "--picture", "near.png", "--out", "near.csv")
    elsewhere, inside = document["queries"]
    assert elsewhere["path"] == "other.png" and len(elsewhere["neighbours"]) == 4
    # Equal bytes: equally near, in the order of the folder; a query is not its own neighbour.
    nearest_two = [each["path"] for each in elsewhere["neighbours"][:2]]
    assert nearest_two == ["photos/copy-1.png", "photos/dog/001.png"]
    assert inside["neighbours"][0]["path"] == "photos/copy-1.png"
    assert "photos/dog/001.png" not in [each["path"] for each in inside["neighbours"]]
    with np.load("z.npz") as z:
        mu, sigma = z["mean"], np.exp(z["log_variance"] / 2)
        rows = {name: row for row, name in enumerate(z["ids"].tolist())}
    posterior = DiagonalGaussian(torch.from_numpy(mu), torch.from_numpy(sigma))
    wanted = by_definition(posterior, posterior, "overlap")[rows["photos/dog/001.png"]]
    for each in inside["neighbours"]:
        assert each["distance"] == pytest.approx(wanted[rows[each["path"]]], abs=1e-5)
    with Path("near.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table[4:]] == [each["path"] for each in inside["neighbours"]]
    assert header(Path("near.png"))[0] == 3
    # The index is made once, and says which model it is of.
    before = Path("z.npz").stat()
    again = found(album, "other.png", "-i", "z.npz", "--top", 4)
    assert again["queries"] == [elsewhere] and Path("z.npz").stat() == before


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(("option", "name"), [("--out", "near.csv"), ("--picture", "near.png")])
def test_a_result_of_another_search_is_not_replaced(
    model: str, album: Path, option: str, name: str
) -> None:
    words = (album, album / "copy-1.png", "-i", "z.npz", option, name)
    found(*words, "-m", model, "--top", 3)
    before = Path(name).read_bytes()
    done = run(*words, "--top", 2)
    assert done.exit_code == 2 and "made with other top (3, now 2)" in done.stderr
    changed_weights(model, Path("other.safetensors"), 2.0)
    done = run(*words, "--top", 3, "-m", "other.safetensors", "--reindex")
    assert done.exit_code == 2 and "made with other index model (" in done.stderr
    assert Path(name).read_bytes() == before
    found(*words, "--top", 3, "--reindex", "-m", model)


def test_near_duplicates_and_their_groups(model: str, album: Path) -> None:
    Path("photos/copy-3.png").write_bytes((album / "dog/001.png").read_bytes())
    words = (album, "-i", "z.npz", "-m", model, "--duplicates", "--overlap", 0.999999)
    document = found(*words, "--picture", "g.png", "--out", "pairs.json")
    assert document["groups"] == [
        ["photos/copy-1.png", "photos/copy-3.png", "photos/dog/001.png"],
        ["photos/002.png", "photos/copy-2.png"],
    ]
    assert [pair["group"] for pair in document["pairs"]] == [1, 1, 1, 2]
    assert all(pair["overlap"] == pytest.approx(1, abs=1e-9) for pair in document["pairs"])
    assert json.loads(Path("pairs.json").read_text()) == document and Path("g.png").exists()
    assert "no duplicates" not in run(*words).output


def test_a_posterior_that_carries_nothing_says_so(model: str, album: Path) -> None:
    changed_weights(model, Path("blind.safetensors"), 0.0)
    done = run(album, "-i", "z.npz", "-m", "blind.safetensors", "--duplicates", "--json")
    assert done.exit_code == 0, done.output
    assert "overlap by 1.00 or more" in done.stderr and "to another image, too" in done.stderr
    assert "hardly tells these images apart" in done.stderr
    pairs = [pair["paths"] for pair in json.loads(done.stdout)["pairs"]]
    assert ["photos/copy-1.png", "photos/dog/001.png"] in pairs
    # By posteriors alone, as a limit of one's own asks for, all are the same.
    limited = found(album, "-i", "z.npz", "--duplicates", "--overlap", 0.999999)
    assert len(limited["pairs"]) == 14 * 13 // 2


def test_pairs_are_confirmed_by_the_angle_between_their_features(model: str, album: Path) -> None:
    loaded = paradise_cli.load(model)
    encode_to_file(loaded, loaded.open(album), Path("f.npy"), features=True)
    encode_to_file(loaded, loaded.open(album), Path("z.npz"))
    features = np.load("f.npy").astype(np.float64)
    features = np.sign(features) * np.sqrt(np.abs(features))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ features.T
    pairs = np.argwhere(np.triu(np.ones((14, 14)), 1))
    for angle in (1e-9, 0.01, 0.1):
        found = confirmed(loaded, read_index(Path("z.npz")), torch.from_numpy(pairs), angle)
        wanted = 1 - cosines[pairs[:, 0], pairs[:, 1]] <= angle
        assert found.tolist() == wanted.tolist() and 2 <= wanted.sum() < 91
    nothing = confirmed(loaded, read_index(Path("z.npz")), torch.empty(0, 2).long(), 0.1)
    assert nothing.shape == (0,)


def changed(name: str) -> None:
    """One change of an album whose index is z.npz."""
    if name == "new":
        Image.new("L", (9, 9)).save("photos/new.png")
    elif name == "gone":
        Path("photos/copy-1.png").unlink()
    elif name == "edited":
        Image.new("L", (9, 9)).save("photos/copy-1.png")
    elif name == "copied index":
        Path("z.npz").write_bytes(Path("z.npz").read_bytes())
    elif name == "no index":
        np.savez("z.npz", mean=np.zeros((14, 3)))
    elif name == "no text":
        Path("q.png").write_text("hello")


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ("new", ["q.png"], "z.npz lacks images of photos: 1 image, such as photos/new.png"),
        ("gone", ["q.png"], "z.npz has images that are not in photos: 1 image, such as"),
        ("edited", ["q.png"], "z.npz is older than images of photos: 1 image, such as photos/copy"),
        ("", ["q.png", "-m", "other.safetensors"], "z.npz was made by the model"),
        ("copied index", ["q.png"], "nothing says which model z.npz was made by"),
        ("copied index", ["q.png", "-m", "other.safetensors"], "was made by another model than"),
        ("copied index", ["--duplicates", "-m", "other.safetensors"], "made by another model"),
        ("no index", ["q.png"], "z.npz is no index: it lacks log_variance, ids"),
        ("no text", ["q.png"], "q.png: unreadable image: not an image"),
        ("", ["nowhere.png"], "no such file: nowhere.png"),
        ("", ["photos"], "cannot read photos: it is no regular file"),
        ("", ["z.npz"], "z.npz: no array and no tar file is a query"),
        ("", [], "no query: name image files"),
        ("", ["q.png", "--duplicates"], "leave out the query q.png"),
        ("", ["--duplicates", "--distance", "overlap"], "leave out --distance"),
        ("", ["q.png", "--overlap", "0.5"], "--overlap belongs to --duplicates"),
    ],
)
def test_mistakes_are_one_message(
    model: str, album: Path, change: str, words: list[str], message: str
) -> None:
    Image.new("L", (9, 9)).save("q.png")
    changed_weights(model, Path("other.safetensors"), 2.0)
    found(album, "q.png", "-i", "z.npz", "-m", model)
    changed(change)
    done = run(album, *words, "-i", "z.npz", "--out", "table.csv")
    assert done.exit_code in (1, 2), done.output
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stdout == "" and not Path("table.csv").exists()


@pytest.mark.parametrize("subfolders", [True, False])
def test_an_index_is_of_its_folder_from_wherever_it_is_asked(
    model: str, album: Path, monkeypatch: pytest.MonkeyPatch, subfolders: bool
) -> None:
    if not subfolders:  # all in one, so that nothing in the names tells where the folder begins
        for path in [*album.glob("*.png"), *album.glob("cat/*")]:
            path.unlink()
    (album / "bad.jpg").write_text("hello")
    query = album / "dog/001.png"
    done = run(album, query, "-i", "z.npz", "-m", model, "--json")
    near = [n["path"] for n in json.loads(done.stdout)["queries"][0]["neighbours"]]
    (shots := album.parent / "elsewhere" / "photos").mkdir(parents=True)
    Path("link").symlink_to("photos")
    root = Path.cwd()
    for where, folder in (
        (root, "link"), (root, "./photos/"), (root, root / "photos"), (shots.parent, "../photos"),
        (root / "photos", "."),
    ):  # fmt: skip
        monkeypatch.chdir(root / where)
        done = run(folder, root / query, "-i", root / "z.npz", "--json")
        assert done.exit_code == 1 and f"skipped {Path(folder) / 'bad.jpg'}: " in done.stderr
        again = json.loads(done.stdout)["queries"][0]["neighbours"]
        here = [str(Path(folder) / Path(path).relative_to(album)) for path in near]
        assert [n["path"] for n in again] == here and Path(here[0]).exists()
    # The same names in another place are other images.
    monkeypatch.chdir(root)
    shutil.copytree("photos", shots, dirs_exist_ok=True)
    monkeypatch.chdir(shots.parent)
    done = run("photos", root / query, "-i", root / "z.npz")
    assert done.exit_code == 2
    assert f"z.npz was made of images in {root / 'photos'}, not in photos: make" in done.stderr


def test_a_folder_of_tar_files_is_refused_before_an_index_is_made(model: str, album: Path) -> None:
    Path("packed").mkdir()
    with tarfile.open("packed/a.tar", "w") as archive:
        archive.add(album / "copy-1.png", "1.png")
    for more in (["--duplicates"], [album / "copy-1.png"]):
        done = run("packed", *more, "-i", "z.npz", "-m", model)
        assert done.exit_code == 2 and not Path("z.npz").exists()
        assert "packed: search reads image files, no tar files; unpack those" in done.stderr


def test_an_index_is_made_anew_when_asked(model: str, album: Path) -> None:
    Image.new("L", (9, 9)).save("q.png")
    found(album, "q.png", "-i", "z.npz", "-m", model)
    changed("new")
    # A file that is no image is known to the index, and is said each time.
    (album / "bad.jpg").write_text("hello")
    for more in (["--reindex"], []):
        done = run(album, "q.png", "-i", "z.npz", *more, "--json")
        assert done.exit_code == 1 and "skipped photos/bad.jpg: not an image" in done.stderr
        assert "1 of 16 images cannot be read" in done.stderr
        near = json.loads(done.stdout)["queries"][0]["neighbours"]
        assert near[0]["path"] == "photos/new.png" and near[0]["distance"] < 1e-6


def test_an_image_that_could_not_be_read_for_a_moment_is_not_left_out_for_good(
    model: str, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (9, 9)).save("q.png")
    lost, read = album / "copy-1.png", Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == lost.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        for more in (["-m", model], []):
            done = run(album, "q.png", "-i", "z.npz", *more)
            assert done.exit_code == 1 and f"skipped photos/{lost.name}: Input/" in done.stderr
    done = run(album, "q.png", "-i", "z.npz")
    assert done.exit_code == 2 and "could not be read for a moment: 1 image" in done.stderr
    assert run(album, "q.png", "-i", "z.npz", "--reindex").exit_code == 0


def test_weights_that_were_trained_again_are_noticed(model: str, album: Path) -> None:
    Path("m.safetensors").write_bytes(Path(model).read_bytes())
    words = (album, "-i", "z.npz", "--duplicates", "--overlap", 0.999999)
    before = found(*words, "-m", "m.safetensors")
    # So little that posteriors, as they are compared, are the same.
    changed_weights(model, Path("m.safetensors"), 1 + 1e-6)
    done = run(*words, "-m", "m.safetensors")
    assert done.exit_code == 2 and done.stdout == ""
    assert "z.npz was made by other weights than m.safetensors holds now" in done.stderr
    # Without a model there is nothing to compare: the pairs are those of the index.
    assert found(*words) == before
    assert run(album, album / "copy-1.png", "-i", "z.npz").exit_code == 2


def test_points_have_no_overlap(album: Path, tmp_path: Path) -> None:
    weights = save_tiny(tmp_path / "m.safetensors", stochastic=False)
    words = (album, "-i", "z.npz", "-m", weights)
    document = found(*words, album / "copy-1.png")
    assert document["distance"] == "wasserstein"
    assert document["queries"][0]["neighbours"][0] == {"path": "photos/dog/001.png", "distance": 0}
    remedy = "points do not overlap; take an index of a stochastic model"
    for more, way_out in (
        (["--duplicates"], remedy),
        ([album / "copy-1.png", "--distance", "overlap"],
         remedy.replace("take", "take --distance wasserstein, or")),
    ):  # fmt: skip
        done = run(*words, *more)
        assert done.exit_code == 2 and way_out in done.stderr


def test_instances_are_classes_of_an_image_and_its_copies(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    (album / "bad.jpg").write_text("hello")
    bundle = DATASETS["instances"](album, size=16, short_side=16, copies=3)
    assert bundle.notes[0].startswith("1 of 15 images cannot be read")
    assert bundle.info.targets[0].classes == tuple(map(str, range(15)))
    labels, ids = bundle.train.labels[:, 0].tolist(), bundle.train.ids
    assert labels == [number for number in range(15) if number != 4 for _ in range(4)]
    for copy in ids[1:4]:
        channels, height, width = header(Path(copy))
        # 20 x 14 pixels, of which 85% to 97% are kept, and then 40% to 95%.
        assert channels == 3 and 6 <= width <= 19 and 4 <= height <= 14
    # Copies are different, and made once.
    assert len({Path(copy).read_bytes() for copy in ids[1:4]}) == 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache/copies").iterdir()}
    # Their names are the training's: it goes on after a change of modes, which a file's times tell.
    for photo in album.rglob("*"):
        photo.chmod(photo.stat().st_mode ^ 0o040)
    again = DATASETS["instances"](album, size=16, short_side=16, copies=3)
    assert again.train.ids == ids and len(before) == 14 * 3
    assert before == {path: path.stat().st_mtime_ns for path in before}
    few = DATASETS["instances"](album, size=16, short_side=16, most=5)
    assert len(few.info.targets[0].classes) == 5 and len(few.train) in (12, 15)
    (album / "bad.jpg").unlink()
    (pixels,) = few.train.fetch(torch.arange(1), 1, (), False)
    how = few.info.preprocessing
    assert np.array_equal(pixels[0].numpy(), decode(album / few.train.ids[0], how))


def test_normalised_features_have_a_root_mean_square_of_one() -> None:
    plain = BACKBONES["frozen"]((3, 32, 32))
    even = BACKBONES["frozen"]((3, 32, 32), normalise=True)
    images = torch.rand(2, 3, 32, 32, generator=generator("images"))
    features = plain(images)
    wanted = features / features.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(even(images), wanted, rtol=1e-5, atol=1e-5)
    assert plain.digest != even.digest


@pytest.mark.skipif(not PHOTOS, reason="set IMAGENET_SAMPLES to a folder of one photo a class")
def test_twenty_near_duplicates_among_a_thousand_photos(tmp_path: Path, monkeypatch) -> None:
    """Each cropped, resized and saved as JPEG 40, by numbers that are none of the training's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARADISE_CACHE", str(tmp_path / "cache"))
    files = sorted(Path(PHOTOS or "").glob("*.JPEG"))
    assert len(files) == 1000
    Path("album").mkdir()
    for file in files:
        (Path("album") / file.name).write_bytes(file.read_bytes())
    planted = set()
    for number in range(20):
        file = files[50 * number + 31]
        with Image.open(file) as picture:
            image = picture.convert("RGB")
        left, top = (number % 3) * image.width // 30, (number % 4) * image.height // 40
        image = image.crop((left, top, left + image.width * 9 // 10, top + image.height * 9 // 10))
        image = image.resize((image.width * 6 // 10, image.height * 6 // 10))
        image.save(f"album/planted-{number}.jpg", quality=40)
        planted.add((f"album/{file.name}", f"album/planted-{number}.jpg"))
    words = ["train", "near_duplicates", "--set", "data.root=album", "--out", "run"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    document = found("album", "-i", "z.npz", "-m", "run", "--duplicates")
    pairs = {tuple(sorted(pair["paths"])) for pair in document["pairs"]}
    assert len(pairs & planted) >= 19 and len(pairs - planted) <= 1, pairs ^ planted
