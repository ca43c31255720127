"""What the training commands' options amount to, held by `declared_options.json`: nothing changes unseen.

Run this file as a script to write it anew.
"""

import json
import math
import shlex
from dataclasses import fields, replace
from pathlib import Path

import pytest

from gluon_aff.cli import COMMANDS, OneLineParser, fill_parser
from gluon_aff.errors import InputError
from gluon_aff.run_names import name_of
from gluon_aff.settings import cifar, imagenet, segmentation
from gluon_aff.settings.declaration import declared
from gluon_aff.settings.parser import settings_from
from gluon_aff.training import notes

GOLDEN = Path(__file__).with_name("declared_options.json")
OPTIONS = {
    "train-cifar": (cifar, cifar.CIFARSettings),
    "train-imagenet": (imagenet, imagenet.ImageNetSettings),
    "train-segmentation": (segmentation, segmentation.SegmentationSettings),
}
NAMED = {"train-cifar": "resnet32_cifar100", "train-imagenet": "aff_resnet50"}
CHANGED = ("--release first", "--recipe afinets", "--release first --recipe afinets")
CHANGED_BY_MORE = (
    "--release first --model resnext38_32x4d",
    "--recipe afinets --dataset cifar10",
    "--recipe afinets --superclass",
)
FUSION = ("--fusion iAFF", "--askc-type Concat", "--fusion MS-SA --scale 0.5 --context conv", "--fusion Add --r 2")
# Command lines whose run's name and notes are held
LINES = {
    "train-cifar": (
        *FUSION,
        "",
        "--release first",
        "--release first --recipe afinets --model resnext29_32x4d --cosine",
        "--model inception --inner full --r 4 --shortcut strided --start-layer 2 --batch-size 1 --fine-label",
        "--model resnext --channel-times 8 --start-layer 4 --shortcut strided --inner full --mode symbolic",
        "--shortcut strided --scale 1 --dataset cifar10 --superclass --deep-stem --no-wd --mixup --num-epochs 40",
        "--cosine --warmup-epochs 700 --drop-rate 1 --warmup-lr 1 --save-period 0 --logging-dir '' --resume-from ''",
        "--model afi_b_resnet32_cifar100 --r 8 --stages 1,3 --attention SE --warmup-epochs -3 --batch-size 1",
        "--model resnet20_b1 --save-dir '' --mixup --mixup-off-epoch -1 --num-epochs 400 --classes 7",
    ),
    "train-imagenet": (
        *FUSION,
        "",
        "--release first --model resnext50_32x4d_askc --use-se --last-gamma --mixup --num-epochs 0040",
        "--recipe afinets --num-epochs 60 --num-layer 18 --start-layer 5 --exact-layers --mode imperative",
        "--scenario ResNeXt --r 4 --use-se --auto_aug --use-rec --resume-epoch 3 --save-frequency 0 --use-gn",
        "--num-layer 152 --batch-size 1 --mode symbolic --dtype bfloat16 --warmup-lr 1 --batch-norm --crop-ratio 0",
        "--num-layer 152 --exact-layers --use-se --rec-train a.rec --rec-val-idx b.idx --use-pretrained --r 32",
        "--teacher x --hard-weight 1 --resume-states a.states --num-epochs 5 --mixup --save-dir '' --last-gamma",
        "--model afi_resnet50 --r 8 --stages 2 --attention GE --teacher-params a.params --resume-params a.params",
    ),
    "train-segmentation": (
        *FUSION,
        "",
        "--scale 1 --decoder-width 32 --fuse-order bottom-up --stem tiny --batch-size 1 --blocks 4 --channel-times 2",
        "--fusion Concatenation --batch-size 1 --save-dir '' --logging-dir ''",
    ),
}


def parser_of(command, argv):
    return fill_parser(OneLineParser(command), COMMANDS[command], argv)


def settings_of(command, line):
    argv = shlex.split(line)
    return settings_from(OPTIONS[command][1], vars(parser_of(command, argv).parse_args(argv)))


def options(command):
    """Each option's words for argparse, in the order of --help; Python's versions lay them out each in its own way."""
    parser = parser_of(command, [])
    exclusive = [action for group in parser._mutually_exclusive_groups for action in group._group_actions]
    for group in parser._action_groups[2:]:
        for action in group._group_actions:
            facts = {
                "group": group.title,
                "flags": action.option_strings,
                "name": action.dest,
                "default": action.default,
                "type": getattr(action.type, "__name__", None),
                "choices": action.choices and list(action.choices),
                "metavar": action.metavar,
                "exclusive": action in exclusive,
                "switch": action.nargs == 0,
                "help": action.help,
            }
            yield {name: fact for name, fact in facts.items() if fact not in (None, False)}


def changed_defaults(command):
    def changed(line):
        found, usual = settings_of(command, line), OPTIONS[command][1]()
        names = sorted(each.name for each in fields(usual))
        return {name: getattr(found, name) for name in names if getattr(found, name) != getattr(usual, name)}

    more = CHANGED_BY_MORE if command == "train-cifar" else ()
    return {line: changed(line) for line in (*CHANGED, *more)} if command in NAMED else {}


def abbreviations(command):
    """What each means, None if nothing or several, where that is not what the one shorter by a letter does."""
    parser = parser_of(command, [])
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    prefixes = sorted({flag[:length] for flag in flags for length in range(len("--x"), len(flag) + 1)})
    meant = {prefix: _meant(parser, prefix) for prefix in prefixes}
    return {prefix: name for prefix, name in meant.items() if name != meant.get(prefix[:-1])}


def _meant(parser, prefix):
    exact = parser._option_string_actions.get(prefix)
    found = {match[0].dest for match in ([(exact,)] if exact else parser._get_option_tuples(prefix))}
    return found.pop() if len(found) == 1 else None


def refused(command, start, values):
    """Settings that the command refuses if they have the value, and what it says then."""
    options, kind = OPTIONS[command]
    found = {}
    for each in fields(kind):
        for value in values(getattr(kind(), each.name)):
            try:
                options.resolve(replace(start, **{each.name: value}))
            except InputError as error:
                found[each.name] = str(error).replace(f"{value}: must be ", "").partition(": give it")[0]
            except (TypeError, ValueError, AttributeError):
                pass
    return found


def limits(command):
    found = refused(command, OPTIONS[command][1](), lambda usual: [math.nan])
    return {name: said for name, said in sorted(found.items()) if " from " in said}


def not_empty(command):
    use_rec = {"use_rec": True} if command == "train-imagenet" else {}
    start = replace(OPTIONS[command][1](), **use_rec)
    return sorted(name for name, said in refused(command, start, lambda usual: [""]).items() if "is empty" in said)


def describes_the_network(command):
    """Settings that a listed network, which is complete, refuses."""
    if command not in NAMED:
        return []
    start = replace(OPTIONS[command][1](), model=NAMED[command])
    found = refused(command, start, lambda usual: [not usual if isinstance(usual, bool) else 18, "conv"])
    return sorted(name for name, said in found.items() if "is a complete network" in said)


def may_differ(command):
    return sorted(name for name, each in declared(OPTIONS[command][1]).items() if each.may_differ)


def names_and_notes(command):
    options, _ = OPTIONS[command]
    of_command = {
        "train-cifar": lambda settings: [*notes.cifar_facts(settings, 512), *notes.cifar_warnings(settings)],
        "train-imagenet": lambda settings: [
            *notes.imagenet_facts(settings, 512),
            *notes.imagenet_warnings(settings, settings.dtype != "bfloat16"),
        ],
        "train-segmentation": lambda settings: [
            *notes.segmentation_facts(settings, (1734, 60), 32),
            *notes.segmentation_warnings(settings, (1734, 60)),
        ],
    }
    for line in LINES[command]:
        settings = options.resolve(settings_of(command, line))
        yield line, [str(name_of(settings)), *of_command[command](settings)]


def facts(command):
    return {
        "usage": parser_of(command, []).usage,
        "options": list(options(command)),
        "changed defaults": changed_defaults(command),
        "abbreviations": abbreviations(command),
        "limits": limits(command),
        "not empty": not_empty(command),
        "describes the network": describes_the_network(command),
        "may differ on resume": may_differ(command),
        "names and notes": dict(names_and_notes(command)),
    }


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_are_what_they_were(command):
    held, found = json.loads(GOLDEN.read_text(encoding="utf-8"))[command], json.loads(json.dumps(facts(command)))
    for what, value in held.items():
        assert found[what] == value


def laid_out(value, depth=3):
    """JSON with a line for each option and each command line."""
    if not depth or not isinstance(value, (dict, list)) or not value:
        return json.dumps(value)
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    items = value.values() if isinstance(value, dict) else value
    inside = ",\n".join(key + laid_out(item, depth - 1) for key, item in zip(keys, items))
    return f"{{\n{inside}\n}}" if isinstance(value, dict) else f"[\n{inside}\n]"


if __name__ == "__main__":
    GOLDEN.write_text(laid_out({command: facts(command) for command in OPTIONS}) + "\n", encoding="utf-8")
