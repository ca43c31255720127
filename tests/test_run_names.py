"""What the names of runs and of their files say is what was written into them."""

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from gluon_aff.errors import InputError
from gluon_aff.models import MODELS
from gluon_aff.operators import OPERATORS
from gluon_aff.run_names import CHECKPOINTS, LOG, SCHEMES, best_file, best_in, name_of, names_in, periodic_file
from gluon_aff.settings import cifar, imagenet, segmentation
from gluon_aff.settings.declaration import AFINET, declared

RESOLVE = {
    cifar.CIFARSettings: cifar.resolve,
    imagenet.ImageNetSettings: imagenet.resolve,
    segmentation.SegmentationSettings: segmentation.resolve,
}


def values_of(option, scheme):
    """What the option may be in a run of that scheme."""
    if option.name == "model" and scheme.networks == AFINET:
        listed = [name for name, record in MODELS.items() if "variant" in record.settings]
        return st.sampled_from(listed)
    if option.name == "model":
        return st.sampled_from(["resnet", "resnext", "inception"])
    if option.name == "askc_type":
        return st.sampled_from([None, *OPERATORS, *(flag for each in OPERATORS.values() for flag in each.flags)])
    if option.choices:
        return st.sampled_from([option.default, *option.choices])
    if option.kind is str:  # stages
        return st.none() | st.lists(st.integers(1, 999), min_size=1).map(lambda stages: ",".join(map(str, stages)))
    return st.just(option.default) | (st.floats if option.kind is float else st.integers)(*option.limits)


@st.composite
def runs(draw):
    """Resolved settings, and what their name says."""
    scheme = draw(st.sampled_from(list(SCHEMES.values())))
    named = {*scheme.patterns, "blocks", *(each.name for each in scheme.parts)}
    options = [each for each in declared(scheme.settings).values() if each.name in named]
    values = {"seed": 0, **{each.name: draw(values_of(each, scheme)) for each in options}}
    try:
        return RESOLVE[scheme.settings](scheme.settings(**values))
    except InputError:
        reject()


@settings(deadline=None)
@given(runs(), st.floats(0, 1), st.integers(0, 10**6))
def test_a_run_is_read_from_the_names_of_its_files(run, score, epoch):
    name = name_of(run)
    best = f"{best_file(str(name), score)}.params"
    for file in (best, f"{periodic_file(name, epoch)}.params", LOG.format(name), CHECKPOINTS.format(name)):
        assert name in names_in(file), file
    assert {each: getattr(run, each) for each in name.values if each != "stages"}.items() <= name.values.items()


@settings(deadline=None)
@given(runs(), st.floats(0, 1), st.integers(0, 10**6))
def test_the_best_weights_say_their_score_and_epoch(run, score, epoch):
    name = str(name_of(run))
    assert best_in(f"{best_file(name, score, epoch)}.params", name) == (float(f"{score:.4f}"), epoch)
    assert best_in(f"{best_file(name, score, epoch)}.params", f"{name}-r-2") is None


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("train_cifar100-cifar100-ASKCFuse-resneXt-38-c-4-s-1.log", "cifar100-ASKCFuse-resneXt-38-32x4-c-4-s-1"),
        ("0.2-imagenet-afi_resnet50-89-best.params", "ImageNet-afi_resnet50"),
    ],
)
def test_names_of_older_files_are_read_too(file, name):
    assert list(map(str, names_in(file))) == [name]


@pytest.mark.parametrize("file", ["weights.params", "cifar100-afi_resnet31_cifar100-best.params", "stopsign-1.params"])
def test_other_names_say_nothing(file):
    assert names_in(file) == []
