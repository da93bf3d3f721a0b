"""Sends a model to the Hub: its weights and what is made of its card, in one commit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paradise_cli.core.storage import publish, publish_text
from paradise_cli.hub.ask import PLAIN_HTTP, Progress, ask
from paradise_cli.hub.cards import WEIGHTS
from paradise_cli.hub.client import TOKEN
from paradise_cli.hub.page import RESULTS


@dataclass(frozen=True)
class Pushed:
    """The commit at which a repository holds what was sent, and whether it is a new one."""

    repo: str
    commit: str
    url: str
    new: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return dict(vars(self))


@dataclass(frozen=True)
class Push:
    """What would be sent where: a weights file, and the texts beside it by their path there.

    `content` is sent in place of the weights file where that named what others need not read.
    """

    repo: str
    weights: Path
    texts: Mapping[str, str]
    content: bytes | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        texts = {name: len(text.encode()) for name, text in self.texts.items()}
        sent = self.weights.stat().st_size if self.content is None else len(self.content)
        return {WEIGHTS: sent} | texts

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        files = [{"path": path, "bytes": size} for path, size in self.sizes.items()]
        return {"repo": self.repo, "weights": str(self.weights), "files": files}

    def send(
        self,
        *,
        private: bool = False,
        token: str | None = None,
        progress: Progress | None = None,
    ) -> Pushed:
        """Create the repository where it is missing, and bring it to these files in one commit.

        Where it holds them already there is no new commit. `private` is for a new repository.
        `token` comes before the one that `hf auth login` left. Raises ParadiseError where the Hub
        cannot be reached or refuses.
        """
        secret = {} if token is None else {TOKEN: token}
        # Files, not an argument: those are short, and anybody on the machine reads them.
        with TemporaryDirectory() as folder:
            files = {WEIGHTS: str(self._file(Path(folder)).resolve())}
            for number, (name, text) in enumerate(self.texts.items()):
                path = Path(folder) / str(number)
                with publish_text(path) as file:
                    file.write(text)
                files[name] = str(path)
            answer = ask(
                self.repo, "push", progress=progress, environment=PLAIN_HTTP | secret, files=files,
                ours=RESULTS, private=private, message="Push a model of PARADISE",
            )  # fmt: skip
        return Pushed(self.repo, answer["commit"], answer["url"], answer["new"])

    def _file(self, folder: Path) -> Path:
        """The file of what is sent as weights."""
        if self.content is None:
            return self.weights
        path = folder / WEIGHTS
        with publish(path) as temporary, temporary.open("wb") as file:
            file.write(self.content)
        return path
