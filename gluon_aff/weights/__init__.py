"""Parameters on disk: reading, checking, loading, saving `.params` files."""

from gluon_aff.weights.params import load_parameters, read_params, save_parameters

__all__ = ["load_parameters", "read_params", "save_parameters"]
