#!/usr/bin/env python3
"""Train a CIFAR network with the original's command lines or more options; see --help."""

import sys

from gluon_aff_command import main

if __name__ == "__main__":
    sys.exit(main("train_cifar.py", "train-cifar"))
