"""Add declared options to a command-line parser, and turn parsed options into settings."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, Dict, Iterable, List, Mapping, Tuple, Type, TypeVar

from gluon_aff.settings.declaration import SAME, Option, declared
from gluon_aff.settings.shared import GROUPS, ClassifierSettings, RunSettings

Settings = TypeVar("Settings")


def add_options(settings: Type[RunSettings], parser: argparse.ArgumentParser, argv: List[str]) -> None:
    """Add the options that a settings class declares to `parser`.

    Args:
        settings: class whose fields declare the options.
        parser: parser to extend.
        argv: arguments of the command line; `--release` and `--recipe` in it change the defaults of other options.
    """
    options = declared(settings)
    parser.usage = settings.usage
    for title in sorted({each.group for each in options.values()}, key=GROUPS.index):
        members = [each for each in options.values() if each.group == title]
        add_declared(parser.add_argument_group(title), sorted(members, key=lambda each: _place(each.name, options)))
    if issubclass(settings, ClassifierSettings):  # segmentation has no original command line to stay compatible with
        _keep_abbreviations(parser, options)
    _set_defaults(parser, options, argv)


def add_declared(group: argparse._ActionsContainer, options: Iterable[Option]) -> None:
    """Add declared options to a parser or to one of its groups."""
    exclusive: Dict[str, argparse._ActionsContainer] = {}
    for each in options:
        if each.exclusive and each.exclusive not in exclusive:
            exclusive[each.exclusive] = group.add_mutually_exclusive_group()
        _add(exclusive.get(each.exclusive or "", group), each)


def _add(group: argparse._ActionsContainer, each: Option) -> None:
    words: Dict[str, Any] = {"dest": each.name, "help": each.help() if callable(each.help) else each.help}
    if each.kind is bool:
        group.add_argument(*each.all_flags, action="store_true", **words)
    else:
        parse: Any = each.parse or (None if each.kind is str else each.kind)
        group.add_argument(*each.all_flags, type=parse, choices=each.choices, metavar=each.metavar, **words)


def _place(name: str, options: Mapping[str, Option]) -> Tuple[int, ...]:
    """Return a key that sorts the options of a group into their order in --help."""
    after = options[name].after
    before: Tuple[int, ...] = () if after is None else _place(after, options) if after else (-1,)
    return (*before, list(options).index(name))


def _keep_abbreviations(parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> None:
    """Keep the meaning that abbreviated flags have in the original, where new flags would make them ambiguous.

    An abbreviation that is now a flag of its own, such as --r, loses its old meaning.
    """
    flags = parser._option_string_actions
    original = ["--help", *(flag for each in options.values() if not each.new for flag in each.flags)]
    originals = [flag for flag in original if flag.startswith("--")]
    abbreviations = {flag[:length] for flag in originals for length in range(len("--x"), len(flag))}
    for abbreviation in abbreviations.difference(flags):
        meant = [flag for flag in originals if flag.startswith(abbreviation)]
        if len(meant) == 1:
            flags[abbreviation] = flags[meant[0]]


def _set_defaults(parser: argparse.ArgumentParser, options: Mapping[str, Option], argv: List[str]) -> None:
    """Set the defaults, which `--release first` and `--recipe afinets` in `argv` change, and add them to --help."""
    said = _said(argv, parser, options)
    defaults = {name: each.default for name, each in options.items()}
    for attribute, flag, value in (("first_release", "release", "first"), ("afinets", "recipe", "afinets")):
        if getattr(said, flag, None) == value:
            changed = {name: getattr(each, attribute) for name, each in options.items()}
            own = {name: new(said) if callable(new) else new for name, new in changed.items() if new is not SAME}
            defaults.update(own)
    parser.set_defaults(**defaults)
    for action in parser._actions:
        if action.dest in options and action.nargs != 0 and action.default not in (None, ""):
            action.help = f"{action.help} (default: {action.default})"


def _said(argv: List[str], parser: argparse.ArgumentParser, options: Mapping[str, Option]) -> argparse.Namespace:
    """Parse `argv` into texts without checking them; `parser` reports any mistakes later."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)  # it would take --r for an abbreviation
    for each in options.values():
        const = True if each.kind is bool else None
        first.add_argument(*each.all_flags, dest=each.name, nargs="?", const=const, default=each.default)
    return first.parse_known_args([_written_out(argument, parser) for argument in argv])[0]


def _written_out(argument: str, parser: argparse.ArgumentParser) -> str:
    """Return `argument` with its flag spelled out if it is an unambiguous abbreviation."""
    name, equals, value = argument.partition("=")
    flags = parser._option_string_actions
    meant = [name] if name in flags else [flag for flag in flags if flag.startswith(name)]
    actions = {id(flags[flag]): flags[flag] for flag in meant}
    if not name.startswith("--") or len(actions) != 1:
        return argument
    (action,) = actions.values()
    return action.option_strings[0] + equals + value


def settings_from(kind: Type[Settings], options: Mapping[str, object]) -> Settings:
    """Build the settings dataclass `kind` from parsed options, leaving out options that are not among its fields."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in options.items() if name in known})
