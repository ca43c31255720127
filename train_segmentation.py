#!/usr/bin/env python3
"""Train the paper's segmentation network on StopSign; see --help."""

import sys

from gluon_aff_command import main

if __name__ == "__main__":
    sys.exit(main("train_segmentation.py", "train-segmentation"))
