"""Upstreams whose official weights are published: their files on the Hugging Face hub, and how to locate them.

Conventions
-----------
- Weights are looked for at the path that a user gives (a file, or a folder with the repository's files), else in the Hugging
  Face cache, else they are downloaded at the pinned revision.
- A file from the hub is compared with its sha256 where one is known. A file given by hand is not, so `UpstreamInfo.source`
  names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError

from marble.errors import MarbleError, one_line
from marble.system.files import file_hash, user_path
from marble.system.hub import hub_answers
from marble.upstream import UpstreamInfo
from marble.upstreams.network import NetworkUpstream


@dataclass(frozen=True)
class Published:
    """An upstream whose official weights are files of a repository on the Hugging Face hub.

    Attributes:
        info: at the published size.
        repository: ``owner/name``.
        revision: commit that is downloaded, or a branch where nothing is pinned.
        files: file name -> sha256 of its content, None where no published value is known; the weights come first.
        read: makes the network of `info` and the paths of `files`, in their order; sizes are read from the files.
        draw: makes the network at its published size, weights from torch's current random state.
    """

    info: UpstreamInfo
    repository: str
    revision: str
    files: Mapping[str, str | None]
    read: Callable[..., NetworkUpstream]
    draw: Callable[[], NetworkUpstream]

    def load(self, argument: str | None = None, *, offline: bool = False) -> NetworkUpstream:
        """Return the upstream with its official weights, from a file or folder, or else from the hub or its cache.

        Raises:
            MarbleError: a file is missing, damaged, carries code, or does not fit.
        """
        paths = self.locate(argument, offline)
        try:
            upstream = self.read(self.info, *paths)
        except (ValueError, IndexError, ArithmeticError, RuntimeError, RecursionError) as error:
            raise MarbleError(
                f"{paths[0]} is not a checkpoint of {self.info.name} ({one_line(error)}): download it again."
            ) from error
        upstream.settings = tuple(file_hash(path) for path in paths[1:])
        upstream.attribute_to(self.info)
        if argument is not None:
            upstream.info = replace(upstream.info, source=f"{paths[0].absolute()}, given for {self.info.source}")
        return upstream.eval().requires_grad_(False)

    def random(self) -> NetworkUpstream:
        """Return the upstream at its published size with weights from torch's current random state."""
        return self.draw().attribute_to(self.info)

    def locate(self, argument: str | None, offline: bool) -> list[Path]:
        """Return the paths of `files`, in order, from a path that a user gave or from the hub.

        A path to a folder must hold the files under their official names; a path to a file is the weights, whatever its
        name, with the other files beside it.

        Raises:
            MarbleError: a file does not exist, cannot be downloaded, or is not the published one.
        """
        if argument is None:
            cached = [try_to_load_from_cache(self.repository, name, revision=self.revision) for name in self.files]
            asked = not offline and not all(isinstance(path, str) for path in cached)
            answers = hub_answers(offline=not asked)
            state = "the hub cannot be reached" if asked else "marble is offline"
            return [self._from_hub(name, sha256, answers, state) for name, sha256 in self.files.items()]
        path = user_path(argument)
        weights, *others = self.files
        if not path.exists():
            raise MarbleError(f"{path} does not exist: give {self.info.name}:PATH the file or folder of {self.repository}.")
        folder = path if path.is_dir() else path.parent
        paths = [folder / weights if path.is_dir() else path, *(folder / name for name in others)]
        for path in paths:
            if not path.is_file():
                raise MarbleError(f"{path} does not exist: {self.info.name} needs it from {self._where(path.name)}.")
        return paths

    def _where(self, name: str) -> str:
        address = f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{name}"
        return f"{address} (licence {self.info.licence})"

    def _from_hub(self, name: str, sha256: str | None, answers: bool, state: str) -> Path:
        """Return the path of a file in the hub's cache, downloaded if the hub answers; `state` says why it does not."""
        upstream = self.info.name
        remedy = (
            f"fetch {self._where(name)} and put it into a folder FOLDER for --upstream {upstream}:FOLDER, or bring it into "
            f"{constants.HF_HUB_CACHE} (HF_HOME moves it) with hf download {self.repository} {name} --revision {self.revision}"
        )
        try:
            path = Path(hf_hub_download(self.repository, name, revision=self.revision, local_files_only=not answers))
        except LocalEntryNotFoundError as error:
            raise MarbleError(f"{upstream} has no {name} in the Hugging Face cache and {state}: {remedy}.") from error
        except Exception as error:  # from the hub, the network or the disk
            raise MarbleError(f"{upstream} cannot download {name} ({one_line(error)}): {remedy}.") from error
        if sha256 is not None and file_hash(path) != sha256:
            raise MarbleError(f"{path} is not the published {name} (another sha256): delete it, then {remedy}.")
        return path
