"""Command lines of train_imagenet.py, parsed."""

import shlex
from functools import partial

from gluon_aff.cli import OneLineParser, fill_parser
from gluon_aff.commands import Command
from gluon_aff.settings.imagenet import ImageNetSettings
from gluon_aff.settings.parser import add_options, settings_from


def filled(argv):
    command = Command("train an ImageNet network", partial(add_options, ImageNetSettings), lambda options: 0)
    return fill_parser(OneLineParser("train_imagenet.py"), command, argv)


def parse(command):
    argv = shlex.split(command)
    return settings_from(ImageNetSettings, vars(filled(argv).parse_args(argv)))
