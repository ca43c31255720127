"""Cards of networks that there need not be."""

from gluon_aff.weights.card import Card


def card_for(network, input_size, outputs=7, **more):
    facts = {"git_blob_sha1": "0" * 40, "labels": None, "dataset": None, **more}
    return Card(network, input_size == 32, input_size, outputs, **facts)
