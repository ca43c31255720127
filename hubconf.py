"""Entry points for `torch.hub.load(FOLDER, NAME, source="local")`: one for each network, which calls `get_model`."""

from functools import partial

from gluon_aff.pytorch import get_model, list_models

dependencies = ["torch", "numpy"]


def _entry_point(name):
    build = partial(get_model, name)
    build.__doc__ = (
        f"Return get_model({name!r}, ...), with its arguments classes, device, pretrained, dtype and features_only."
    )
    return build


globals().update({name: _entry_point(name) for name in list_models()})
