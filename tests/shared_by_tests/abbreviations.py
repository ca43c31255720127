"""Abbreviated flags, held against the original's parser, which argparse made of its flags alone."""

FLAGS = {"auto_aug": "--auto_aug", "num_workers": "--num-data-workers"}
VALUES = {"dataset": "cifar10", "mode": "imperative", "lr_mode": "step", "dtype": "float32", "num_layer": "101"}


def different_abbreviations(parser, names):
    """Those that `parser` takes for something else than the original did, `names` being all of its settings."""
    flags = {FLAGS.get(name, f"--{name.replace('_', '-')}"): name for name in names}
    known = [*flags, "--help"]
    different = []
    for flag, name in flags.items():
        value = [] if parser.get_default(name) is False else [VALUES.get(name, "1")]
        expected = parser.parse_args([flag, *value])
        for length in range(3, len(flag)):
            meant = [one for one in known if one.startswith(flag[:length])]
            if meant == [flag] and _parsed(parser, [flag[:length], *value]) != expected:
                different.append(flag[:length])
    return different


def _parsed(parser, argv):
    try:
        return parser.parse_args(argv)
    except SystemExit:
        return None
