"""MXNet's side of the door has what the door's protocols promise, under the same names of arguments."""

import inspect

import pytest
from shared_by_tests.protocols import arguments, promised

from gluon_aff import engines
from gluon_aff.gluon.cluster import Cluster
from gluon_aff.gluon.learner import GluonLearner
from gluon_aff.gluon.network import GluonNetwork

SIDES = [
    (engines.Engine, engines.engine()),
    (engines.Cluster, Cluster()),
    (engines.Learner, GluonLearner),
    (engines.SymbolNetwork, GluonNetwork),
]


@pytest.mark.parametrize(("protocol", "side"), SIDES, ids=lambda each: getattr(each, "__name__", type(each).__name__))
def test_the_door_has_what_its_protocols_promise(protocol, side):
    members = promised(protocol)
    assert members
    for name, member in members.items():
        assert hasattr(side, name), name
        if inspect.isfunction(member):
            assert arguments(getattr(side, name)) == arguments(member), name
