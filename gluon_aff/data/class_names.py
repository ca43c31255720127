"""Names of the classes of CIFAR-10, CIFAR-100 and ImageNet, in the order of their labels."""

from __future__ import annotations

from pathlib import Path
from typing import List

from gluon_aff.errors import unknown_name

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR100_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""

IMAGENET = Path(__file__).with_name("imagenet_classes.txt")

CIFAR100_COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""


def class_names(dataset: str, fine_label: bool = False) -> List[str]:
    """Return the names of a data set's classes, in the order of their labels.

    Args:
        dataset: 'cifar10', 'cifar100' or 'imagenet'. ImageNet's names are GluonCV's, in which 'crane' (a bird and a
            machine) and 'maillot' stand for two labels each.
        fine_label: whether to return CIFAR-100's 100 classes instead of its 20 superclasses; the other data sets have
            only one set of labels.

    Raises:
        InputError: there is no such data set.
    """
    if dataset == "imagenet":
        return IMAGENET.read_text().splitlines()
    names = {"cifar10": CIFAR10, "cifar100": CIFAR100_FINE if fine_label else CIFAR100_COARSE}
    if dataset not in names:
        raise unknown_name("data set", dataset, [*names, "imagenet"])
    return names[dataset].split()
