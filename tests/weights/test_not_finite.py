"""Weights with NaN or infinity are refused by whatever computes with them, and named."""

import numpy as np
import pytest

from gluon_aff.errors import ParamsFileError
from gluon_aff.weights.params import check_finite, not_finite, structural_arrays
from gluon_aff.weights.params_format import BFLOAT16, write_params_file

TYPES = ("<f2", "<f4", "<f8")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", TYPES)
def test_one_value_in_any_array_is_found(tmp_path, dtype, value):
    path = str(tmp_path / "x.params")
    for spoilt in ("a.weight", "b.running_var", "c.bias"):
        arrays = {name: np.ones((3, 5), dtype) for name in ("a.weight", "b.running_var", "c.bias")}
        arrays["whole"] = np.ones(3, np.int32)
        write_params_file(path, arrays)
        assert list(structural_arrays(path)) == list(arrays)
        arrays[spoilt][2, 1] = value
        write_params_file(path, arrays)
        with pytest.raises(ParamsFileError, match=rf"x\.params has NaN or infinity in 1 of 4 arrays \({spoilt}\)"):
            structural_arrays(path)
        assert list(structural_arrays(path, allow_not_finite=True)) == list(arrays)


def test_bfloat16_is_looked_at_too():
    one, infinity = 0x3F80, 0x7F80
    arrays = {"a": np.array([one], np.uint16).view(BFLOAT16), "b": np.array([infinity], np.uint16).view(BFLOAT16)}
    assert not_finite(arrays) == ["b"]


@pytest.mark.parametrize(("arrays", "more"), [(5, ""), (6, " and 1 more"), (7, " and 2 more")])
def test_of_many_arrays_the_first_are_named(arrays, more):
    with pytest.raises(ParamsFileError, match=rf"in {arrays} of {arrays} arrays \(0, 1, 2, 3, 4{more}\)"):
        check_finite({str(number): np.array([np.nan]) for number in range(arrays)}, "x")
