"""What a process of a run finds out before it builds the network, here as the second of two workers."""

from types import SimpleNamespace

import numpy as np
import pytest

from gluon_aff.data.batches import Share
from gluon_aff.engines import Devices
from gluon_aff.errors import InputError
from gluon_aff.settings.cifar import CIFARSettings, resolve
from gluon_aff.training import setup as training_setup
from gluon_aff.training.setup import DataFacts, set_up


class Second:
    """A cluster in which worker 0 broadcasts these arrays, one after the other."""

    rank, size, local_size = 1, 2, 2

    def __init__(self, *told):
        self.told = iter(told)

    def devices(self, devices):
        return devices

    def broadcast(self, array):
        return np.array(next(self.told))


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Function that sets up a worker with two devices, to which worker 0 tells what is given."""
    monkeypatch.chdir(tmp_path)

    def of(*told, **changed):
        engine = SimpleNamespace(NAME="Abacus", VERSION="1", join_cluster=lambda kvstore: Second(*told))
        monkeypatch.setattr(training_setup, "engine", lambda name: engine)
        settings = resolve(CIFARSettings(batch_size=5, seed=4, **changed))
        return set_up(settings, given_seed=4, devices=Devices("cpu", (0, 1)), device_note="two devices")

    return of


def test_a_step_has_the_images_of_all_workers_devices(found):
    setup = found([9, 2])
    assert (setup.device_count, setup.local_batch, setup.global_batch) == (4, 10, 20)
    assert (setup.share, setup.writes) == (Share(1, 2), False)
    versions = setup.versions(DataFacts("cifar100", False, 20, 100, ()))
    assert "Abacus 1, " in versions
    assert "devices cpu(0),cpu(1),cpu(0),cpu(1), 20 images per step, other data, 20 label values" in versions


def test_only_worker_0_says_what_is_trained(found, capsys):
    found([9, 2]).announce(SimpleNamespace(notes=["a note"]), 3, ["a fact"], ["a warning"])
    assert capsys.readouterr() == ("", "")


def test_all_workers_have_the_seed_of_the_first(found):
    assert found([9, 2]).settings.seed == 9


def test_workers_with_other_numbers_of_devices_are_refused(found):
    with pytest.raises(InputError, match="worker 1 has 2 devices and worker 0 has 3: give all workers the same number"):
        found([9, 3])


def test_a_checkpoint_that_only_worker_0_sees_is_refused(found):
    with pytest.raises(InputError, match="worker 1 and worker 0 see different checkpoints"):
        found([9, 2], [3, 0], resume="auto")
