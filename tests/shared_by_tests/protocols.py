"""What a protocol promises, and what a function takes."""

import inspect

from gluon_aff import engines


def promised(protocol):
    """Methods and properties of a protocol, and its annotated attributes, by name."""
    parts = [part for part in protocol.__mro__ if part.__module__ == engines.__name__]
    own = {name: each for part in parts for name, each in vars(part).items() if not name.startswith("_")}
    return {**{name: None for part in parts for name in vars(part).get("__annotations__", ())}, **own}


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]
