"""Read and write PyTorch's weight files: `.pth`, a state_dict, and `.safetensors`, both with PyTorch's names."""

from __future__ import annotations

import pickle
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

from gluon_aff.errors import ParamsFileError, last_line
from gluon_aff.extras import import_extra
from gluon_aff.files import replacing
from gluon_aff.models import Architecture
from gluon_aff.pytorch.gluon_names import raw_names
from gluon_aff.pytorch.networks.zoo import arguments, build, parameter_shapes
from gluon_aff.pytorch.parameters import IN_MXNET, UPDATES, load_arrays
from gluon_aff.weights.params_format import BFLOAT16

IN_PYTORCH = {theirs: ours for ours, theirs in IN_MXNET.items()}
__all__ = ["arguments", "logits", "parameter_shapes", "raw_names", "read_state", "write_state"]

CARD = "gluon_aff"  # key of the network's card in a state_dict's metadata
NESTED = ("state_dict", "model")  # keys under which training programs store a state_dict among other things


def read_state(path: str) -> Tuple[Dict[str, np.ndarray], Dict[str, str]]:
    """Read the arrays of a file, by their `.params` names, and the network card that it has.

    Nothing in the file is run: a `.pth` file is read with `weights_only=True`.

    Raises:
        ParamsFileError: the file cannot be read, or holds something other than the tensors of a network.
    """
    tensors, card = _read_safetensors(path) if _is_safetensors(path) else _read_state_dict(path)
    norms = {key.rpartition(".")[0] for key in tensors if key.endswith(".running_mean")}
    arrays = {}
    for key, tensor in tensors.items():
        layer, _, own = key.rpartition(".")
        if own != UPDATES:
            arrays[f"{layer}.{IN_MXNET[own]}" if layer in norms and own in IN_MXNET else key] = _as_array(tensor)
    return arrays, card


def write_state(path: str, arrays: Mapping[str, np.ndarray], card: Mapping[str, str]) -> None:
    """Write arrays, given by their `.params` names, to `path`, whole or not at all, with the card of their network.

    PyTorch or safetensors reads from the file what `load_state_dict` takes.

    Raises:
        GluonAFFError: the file cannot be written.
        InputError: safetensors is not installed.
    """
    tensors: Dict[str, torch.Tensor] = {}
    for name, array in arrays.items():
        layer, _, own = name.rpartition(".")
        tensors[f"{layer}.{IN_PYTORCH.get(own, own)}"] = _as_tensor(array)
        if own == "running_var":  # the last entry of a BatchNorm
            tensors[f"{layer}.{UPDATES}"] = torch.tensor(0)
    with replacing(path) as partial:
        if _is_safetensors(path):
            import_extra("safetensors.torch").save_file(tensors, partial, metadata={"format": "pt", **card})
        else:
            torch.save(_with_metadata(tensors, card), partial)


def logits(architecture: Architecture, arrays: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Return the outputs, (N, ...), of the network with these parameters for images, float32 (N, 3, H, W)."""
    net = build(architecture).eval()
    load_arrays(net, arrays, architecture.name)
    with torch.no_grad():
        return net(torch.from_numpy(images)).numpy()


def _is_safetensors(path: str) -> bool:
    return path.lower().endswith(".safetensors")


def _with_metadata(tensors: Dict[str, torch.Tensor], card: Mapping[str, str]) -> Dict[str, torch.Tensor]:
    """Return the tensors as `Module.state_dict` does, in an OrderedDict with `_metadata`, which files keep."""
    state: Any = torch.nn.Module().state_dict()
    state.update(tensors)
    state._metadata[""][CARD] = dict(card)
    return state


def _read_state_dict(path: str) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ParamsFileError(
            f"{path} is not a state_dict, or holds more than tensors. It was not read further, as that can run code: "
            "save net.state_dict() alone with torch.save, and take that file"
        ) from None
    except Exception as error:  # torch.load has no error type of its own, so a damaged file may raise any
        raise ParamsFileError(f"{path} cannot be read as a state_dict ({last_line(error)}): get it again") from None
    for key in NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise ParamsFileError(f"{path} holds no state_dict: save net.state_dict() with torch.save, and take that file")
    metadata = getattr(state, "_metadata", None)
    own = metadata.get("") if isinstance(metadata, dict) else None
    card = own.get(CARD) if isinstance(own, dict) else None
    return state, card if isinstance(card, dict) else {}


def _read_safetensors(path: str) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    import_extra("safetensors.torch")
    from safetensors import SafetensorError, safe_open

    try:
        # Opened by its file descriptor, since safetensors takes only names in UTF-8
        with open(path, "rb") as opened, safe_open(f"/dev/fd/{opened.fileno()}", framework="pt") as file:
            names: List[str] = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ParamsFileError(f"{path} cannot be read as safetensors ({last_line(error)}): get it again") from None


def _as_array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:  # NumPy has no bfloat16
        return tensor.view(torch.int16).numpy().view(BFLOAT16)
    return tensor.numpy()


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype == BFLOAT16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
