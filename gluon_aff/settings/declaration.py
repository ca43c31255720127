"""Declare the options of the training commands, each as one field of a settings class.

    lr: float = option(0.2, "schedule", "learning rate", limits=(0, 1e30), first_release=0.1)

The parser of a command line, the checks of values, the names of runs and the comparison with published runs all read
these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union, get_args, get_type_hints

from gluon_aff.errors import InputError

SAME = object()  # the release or the recipe has the usual default
# Kinds of networks: assembled from flags, or a network of `gluon-aff models` that integrates features (an AFINet)
ASSEMBLED, AFINET = "assembled", "AFINet"


@dataclass(frozen=True)
class Option:
    """An option of a training command.

    Attributes:
        name: name of the setting.
        kind: type of the value; a bool is a switch.
        default: default value.
        group: title of the option's group in --help.
        flags: flags of the command line; the setting's name with dashes, unless others are declared.
        help: text for --help, to which the parser adds the default; or a function that returns it, for a text that
            depends on what has been registered when --help is printed.
        new: whether the original's scripts lack this option.
        synonyms: further flags, which the original's scripts lack.
        choices: allowed values; None allows all.
        limits: lowest and highest allowed value.
        not_empty: whether an empty text, perhaps from an unset shell variable, is an error instead of meaning none.
        only_with: name of the switch without which this option has no effect.
        may_differ: whether a resumed run may have another value, because the option does not affect results.
        networks: kinds of networks that accept the option; empty if it does not describe the network.
        hosts: hosts that the option affects; empty means all.
        in_name: text before the value in the name of a run; None keeps the option out of the name.
        first_release: default with `--release first`, or a function that computes it from the given options.
        afinets: default with `--recipe afinets`, or such a function.
        after: option that this one follows in --help, '' to come first; None keeps the order of declaration.
        exclusive: name of a set of options of which only one may be given.
        metavar: placeholder for the value in --help.
        parse: function that reads the value from its text; None uses `kind`.
    """

    name: str
    kind: type
    default: Any
    group: str
    flags: Sequence[str]
    help: Union[str, Callable[[], str]] = ""
    new: bool = False
    synonyms: Sequence[str] = ()
    choices: Optional[Sequence[Any]] = None
    limits: Optional[Tuple[float, float]] = None
    not_empty: bool = False
    only_with: Optional[str] = None
    may_differ: bool = False
    networks: Sequence[str] = ()
    hosts: Sequence[str] = ()
    in_name: Optional[str] = None
    first_release: Any = SAME
    afinets: Any = SAME
    after: Optional[str] = None
    exclusive: Optional[str] = None
    metavar: Optional[str] = None
    parse: Optional[Callable[[str], Any]] = None

    @property
    def all_flags(self) -> Tuple[str, ...]:
        """Return the original's flags and the synonyms."""
        return (*self.flags, *self.synonyms)


def option(default: Any, group: Optional[str] = None, help: Any = None, **more: Any) -> Any:
    """Return a dataclass field that declares an option.

    A field that a base class declares as well needs to state only what differs from there.

    Args:
        default: default value of the setting.
        group: title of the option's group in --help.
        help: text for --help.
        more: further attributes of `Option`.
    """
    said = {"group": group, "help": help, **more}
    return field(default=default, metadata={name: value for name, value in said.items() if value is not None})


def flag(name: str) -> str:
    """Return the flag of a setting: `--batch-size` for `batch_size`."""
    return f"--{name.replace('_', '-')}"


def declared(settings: type) -> Mapping[str, Option]:
    """Return the options of a settings class by name, in the order of their declarations.

    They include class variables such as `recipe`, which change defaults and are not stored as settings.
    """
    return _declared(settings)


@lru_cache(maxsize=None)  # reading the types takes milliseconds
def _declared(settings: type) -> Mapping[str, Option]:
    said: Dict[str, Dict[str, Any]] = {}
    for base in reversed(settings.__mro__):
        for each in getattr(base, "__dataclass_fields__", {}).values():
            said.setdefault(each.name, {"flags": (flag(each.name),)}).update(each.metadata, default=each.default)
    types = get_type_hints(settings)
    return {name: Option(name, (*get_args(types[name]), types[name])[0], **more) for name, more in said.items()}


def check_declared(settings: object) -> None:
    """Check all settings of a run against their declared choices and limits, and that required texts are not empty.

    Raises:
        InputError: a value is not allowed; the message names the flag.
    """
    check_limits(type(settings), settings)
    for name, each in declared(type(settings)).items():
        value = getattr(settings, name)
        if each.choices is not None and value not in (None, *each.choices):
            raise InputError(f"{flag(name)} {value}: choose one of {', '.join(map(str, each.choices))}")
        if each.not_empty and (each.only_with is None or getattr(settings, each.only_with)):
            check_not_empty(name, value)


def check_not_empty(name: str, value: object) -> None:
    """Check that the value of the setting called `name` is not an empty text, perhaps from an unset shell variable.

    Raises:
        InputError: it is empty.
    """
    if value == "":
        raise InputError(f"{flag(name)} is empty: give it a value, or leave the flag out")


def check_limits(kind: type, values: object) -> None:
    """Check the attributes of `values` against the limits that the settings class `kind` declares for these names.

    Raises:
        InputError: a value is out of its limits; the message names the flag and the limits.
    """
    for name, each in declared(kind).items():
        value = getattr(values, name, None)
        if each.limits and value is not None and not each.limits[0] <= value <= each.limits[1]:
            raise InputError(f"{flag(name)} {value}: must be from {each.limits[0]} to {each.limits[1]}")
