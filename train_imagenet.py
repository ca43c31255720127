#!/usr/bin/env python3
"""Train an ImageNet network; command lines of the original run unchanged. See --help."""

import sys

from gluon_aff_command import main

if __name__ == "__main__":
    sys.exit(main("train_imagenet.py", "train-imagenet"))
