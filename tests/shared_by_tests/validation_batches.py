"""How many images at a time commands read for evaluation."""

from dataclasses import replace

from gluon_aff.evaluation import weights_file


def batch_sizes(monkeypatch):
    """The sizes of the batches of validation images that commands read from now on."""
    sizes = []

    def noted(batches):
        for images, labels in batches:
            sizes.append(len(images))
            yield images, labels

    def watched(*arguments, set_of=weights_file.validation_set):
        data = set_of(*arguments)
        return replace(data, batches=noted(data.batches))

    monkeypatch.setattr(weights_file, "validation_set", watched)
    return sizes
