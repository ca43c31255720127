"""Find published weight files in `params/` or in a clone of the original repository, or download them."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Tuple, Union

from gluon_aff.errors import GluonAFFError, InputError, ParamsFileError, unknown_name
from gluon_aff.models import ModelRecord
from gluon_aff.published import PublishedWeights
from gluon_aff.weights.params_format import GET_AGAIN, git_blob_sha1, read_params_file

if TYPE_CHECKING:
    from gluon_aff.download import Patience

ROOT = "params"
CLONE_VARIABLE = "GLUON_AFF_OPEN_AFF"
NAMES_OF_CLONE = f"--open-aff DIR; open_aff= in Python; ${CLONE_VARIABLE}"


def published_file(
    weights: PublishedWeights,
    root: str = ROOT,
    open_aff: Optional[str] = None,
    url: Optional[str] = None,
    patience: Optional[Patience] = None,
) -> str:
    """Return the path of a published weight file, verified by its git blob SHA-1; download it to `root` if necessary.

    Args:
        weights: record of the published file.
        root: folder with weight files, in the original's subfolders or directly in it.
        open_aff: clone of the original repository, open-aff; $GLUON_AFF_OPEN_AFF if None.
        url: address to download from; the original repository on GitHub if None.
        patience: time limits of the download; the defaults of `Patience` if None.

    Raises:
        ParamsFileError: `open_aff` is not a directory.
        GluonAFFError: the file is not found and cannot be downloaded. The message also names files that have the right
            name but other content.
    """
    clone = open_aff or os.environ.get(CLONE_VARIABLE)
    if clone and not Path(clone).is_dir():
        raise ParamsFileError(f"{clone} is not a directory: name a clone of open-aff ({NAMES_OF_CLONE})")
    found, others = _search(weights, _candidates(weights, root, clone))
    if found:
        return found
    # Imported here because its packages are not installed everywhere
    from gluon_aff.download import PATIENCE, DownloadError, download

    target, check, url = str(_in_folders(weights, root)), partial(_problem, weights), url or weights.url
    try:
        download(url, target, check, "the weights", patience=patience or PATIENCE)
    except GluonAFFError as error:
        _remove_empty(Path(target).parent, Path(root))
        what = str(error)
        if isinstance(error, DownloadError):
            folders = " or ".join(os.path.join(folder, "") for folder in filter(None, (root, clone)))
            what = (
                f"the weights of {weights.model} are not in {folders} and could not be downloaded ({error.reason}): "
                f"download {url} elsewhere and put the file at {os.path.abspath(target)}"
            )
        passed_over = f"; passed over: {'; '.join(others)}" if others else ""
        raise GluonAFFError(f"{what}, or name a clone of open-aff ({NAMES_OF_CLONE}){passed_over}") from None
    return target


def pretrained_file(
    record: ModelRecord, pretrained: Union[bool, str], root: str = ROOT, open_aff: Optional[str] = None
) -> str:
    """Return the path of the weight file for the argument `pretrained` of `get_model`; download it if necessary.

    Args:
        record: the model.
        pretrained: label set of published weights, True for the first label set, or the path of a file.
        root: folder with published weights.
        open_aff: clone of the original repository, open-aff; $GLUON_AFF_OPEN_AFF if None.

    Raises:
        InputError: the label set is unknown, or the model has no published weights.
        GluonAFFError: the published weights are not found and cannot be downloaded.
    """
    if pretrained is True and not record.weights:
        raise InputError(f"pretrained: no weights of {record.name} were published; name a .params file")
    labels = next(iter(record.weights)) if pretrained is True else str(pretrained)
    if labels in record.weights:
        return published_file(record.weights[labels], root, open_aff)
    if os.path.exists(labels) or labels.endswith(".params"):
        return labels
    raise unknown_name(f"label set of {record.name}'s published weights", labels, [*record.weights, "a .params file"])


def _in_folders(weights: PublishedWeights, root: str) -> Path:
    return Path(root, *weights.path.split("/")[1:])


def _candidates(weights: PublishedWeights, root: str, clone: Optional[str]) -> List[Path]:
    """Return the paths where the file may be, the likeliest first."""
    places = [_in_folders(weights, root), Path(root, weights.file_name)]
    return [*places, Path(clone, weights.path)] if clone else places


def _search(weights: PublishedWeights, candidates: List[Path]) -> Tuple[Optional[str], List[str]]:
    """Return the first candidate with the right content, and for each one before it why it was passed over."""
    others: List[str] = []
    for path in candidates:
        if os.path.lexists(path):
            problem = _problem(weights, str(path))
            if problem is None:
                return str(path), others
            others.append(f"{path} ({problem})")
    return None, others


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove `folder` and the folders above it, up to but without `root`, as far as they are empty."""
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _problem(weights: PublishedWeights, path: str) -> Optional[str]:
    """Return why the file at `path` is not the published one; None if it is."""
    try:
        digest = git_blob_sha1(path)
        if digest == weights.git_blob_sha1:
            return None
        read_params_file(path)
    except ParamsFileError as error:
        return str(error).replace(f"{path}", "it", 1).split(f": {GET_AGAIN}")[0]
    return f"git blob SHA-1 {digest}, expected {weights.git_blob_sha1}"
