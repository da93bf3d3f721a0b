"""Image files within tar files, as WebDataset lays them out; docs/use.md."""

import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from paradise_cli.core.errors import ParadiseError
from paradise_cli.core.storage import require_regular
from paradise_cli.core.units import counted
from paradise_cli.data.listing import SUFFIXES, check_size, image_ids, is_left_out, matching

SHARD = ".tar"
_CLASS = ".cls"  # of WebDataset: beside 000012.jpg, the class in text
_LONGEST = 2**20
"""Bytes of a header of a tar file, or of a class: a damaged one may claim any number."""


@dataclass(frozen=True)
class Packed:
    """An image file within a tar file, read where it lies there.

    `class_name` is what the file of the same name with the suffix `.cls` holds, else the only such
    file of the same name up to the first dot, else the folder.
    """

    shard: Path
    name: str
    offset: int
    size: int
    class_name: str | None = None

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    @property
    def folders(self) -> list[str]:
        """The folders that it lies in, within the tar file."""
        return self.name.split("/")[:-1]

    def read_bytes(self) -> bytes:
        """Its content; raises OSError or ValueError."""
        check_size(self.size)
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise ValueError(f"{self.shard} ends within it")
        return content


ImageFile = Path | Packed
"""An image file by itself, or within a tar file."""


def on_disk(file: ImageFile) -> Path:
    """The file on the disk that it is, or lies in."""
    return file.shard if isinstance(file, Packed) else file


def ids_and_shards(folder: Path) -> tuple[list[str], list[Path]]:
    """The images of a folder as `image_ids`, and the tar files that lie in it, sorted.

    Raises errors as `image_ids` where there are neither.
    """
    shards = shards_in(folder)
    try:
        return image_ids(folder), shards
    except ParadiseError:
        if not shards:
            raise
        return [], shards


def shards_in(folder: Path) -> list[Path]:
    """The tar files that lie in a folder itself, sorted."""
    return [path for path in matching(f"{escape(str(folder))}/*{SHARD}") if path.is_file()]


def packed_images(shard: Path, *, some: bool = True) -> list[Packed]:
    """All images of a tar file, in its order, without what `image_ids` leaves out of a folder.

    Raises ParadiseError for what is no tar file, is compressed, or, where there are to be `some`,
    holds no image.
    """
    require_regular(shard)
    images: list[Packed] = []
    classes: dict[str, str] = {}
    try:
        with _Headers(io.FileIO(shard)) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in _files_of(archive):
                found = Packed(shard, member.name, member.offset_data, member.size)
                if member.name.lower().endswith(_CLASS) and member.size < _LONGEST:
                    text = found.read_bytes().decode(errors="backslashreplace")
                    classes[_stem(member.name)] = text.strip()
                elif member.name.lower().endswith(SUFFIXES):
                    images.append(found)
            _check_end(file, archive.offset, len(images))
    except OSError as error:
        raise ParadiseError(f"{shard}: cannot be read: {error.strerror or error}") from error
    # A damaged header makes tarfile raise nearly anything.
    except Exception as error:
        raise ParadiseError(
            f"{shard}: damaged, or no tar file ({error}); a compressed one must be unpacked once"
        ) from error
    if some and not images:
        raise ParadiseError(f"{shard}: no image in it; readable suffixes: {' '.join(SUFFIXES)}")
    counts = Counter(map(_key, classes))
    # Of 2024.05.01.cls and 2024.05.02.cls neither is that of all pictures of the year.
    alone = {_key(name): text for name, text in classes.items() if counts[_key(name)] == 1}
    return [_with_class(image, alone | classes) for image in images]


def _files_of(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    places: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        *folders, name = member.name.removeprefix("./").split("/")
        if member.islnk() and member.linkname in places:
            # Another name of a file that was packed before.
            target = places[member.linkname]
            member.offset_data, member.size = target.offset_data, target.size
        elif (member.issym() or member.islnk()) and name.lower().endswith(SUFFIXES):
            raise ValueError(f"{member.name} is a link: pack what it leads to, by tar -h")
        elif not member.isreg():
            continue
        places[member.name] = member
        if ".." in folders and name.lower().endswith(SUFFIXES):
            raise ValueError(f"{member.name} leads out of it: pack it from the folder it is in")
        if name.startswith(".") or any(map(is_left_out, folders)):
            continue
        if member.issparse():
            raise ValueError(f"{member.name} is stored with holes: pack it without --sparse")
        yield member


def _check_end(file: io.BufferedReader, offset: int, images: int) -> None:
    """Raise ValueError unless a block of zeros and nothing else follows what was listed.

    For tarfile a damaged header behind the first one is the end.
    """
    file.seek(offset)
    rest = file.read(_LONGEST)
    if len(rest) < tarfile.BLOCKSIZE or any(rest) or file.read(1):
        raise ValueError(f"cut short or changed after {counted(images, 'image')}")


def _with_class(image: Packed, classes: dict[str, str]) -> Packed:
    folder = image.folders[-1] if image.folders else None
    # The whole name first: WebDataset takes 2024.05.01.jpg and 2024.05.02.jpg for one example.
    names = [image.name, _stem(image.name), _key(image.name)]
    found = next((classes[name] for name in names if classes.get(name)), None)
    return replace(image, class_name=found or folder)


def _stem(name: str) -> str:
    """A file's name without its suffix."""
    return name.rpartition(".")[0]


def _key(name: str) -> str:
    """What WebDataset knows an example by: its name up to the first dot."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


class _Headers(io.BufferedReader):
    """A file of which only short pieces are read at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST:
            raise ValueError(f"a header of {size} bytes")
        return super().read(size)
