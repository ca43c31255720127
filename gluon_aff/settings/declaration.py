"""How the settings of the training commands are declared: a field is an option, and says all that there is to it.

    lr: float = option(0.2, "schedule", "learning rate", limits=(0, 1e30), first_release=0.1)

Parsers, checks, names of runs and the comparison with published runs read these declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union, get_args, get_type_hints

from gluon_aff.errors import InputError

SAME = object()  # as a release's or a recipe's default: today's
# Kinds of networks: put together from flags, or one of `gluon-aff models` that integrates features (an AFINet)
ASSEMBLED, AFINET = "assembled", "AFINet"


@dataclass(frozen=True)
class Option:
    """An option of a training command.

    Attributes:
        name: of the setting.
        kind: type of its value; a bool is a switch.
        default: of the setting.
        group: title of its group in --help.
        flags: of the command line; the setting's name with dashes, unless others are declared.
        help: text in --help, to which the default is added, or a function that knows what is registered by then.
        new: the original's scripts do not have it.
        synonyms: more flags, which the original's scripts do not have.
        choices: values that there are, if not all.
        limits: lowest and highest value.
        not_empty: an empty text, which may be an unset variable, is refused instead of taken for none.
        only_with: switch without which it has no effect.
        may_differ: it has no say in what a run comes to, so that a resumed run may have another value.
        networks: kinds that take it; none if it does not describe the network.
        hosts: hosts that it has an effect on, if not on all.
        in_name: what comes before its value in the name of a run; None if that does not have it.
        first_release: default with `--release first`, or a function that gives it for the options that are said.
        afinets: the same with `--recipe afinets`.
        after: option that it follows in --help, '' for none; if None, it follows those declared before it.
        exclusive: name of the options of which one may be given.
        metavar: stands for its value in --help.
        parse: reads the value, if `kind` does not.
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
        """Flags of the command line."""
        return (*self.flags, *self.synonyms)


def option(default: Any, group: Optional[str] = None, help: Any = None, **more: Any) -> Any:
    """Field of a settings class; `more` are attributes of `Option`.

    One that a base class declares too has to say only what differs.
    """
    said = {"group": group, "help": help, **more}
    return field(default=default, metadata={name: value for name, value in said.items() if value is not None})


def flag(name: str) -> str:
    """Flag of the setting called `name`."""
    return f"--{name.replace('_', '-')}"


def declared(settings: type) -> Mapping[str, Option]:
    """Options of a settings class by name, in the order of the declarations; also those that are no settings."""
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
    """Raise InputError for a setting that is empty, none of its choices or out of its limits, and should not be."""
    check_limits(type(settings), settings)
    for name, each in declared(type(settings)).items():
        value = getattr(settings, name)
        if each.choices is not None and value not in (None, *each.choices):
            raise InputError(f"{flag(name)} {value}: there are {', '.join(map(str, each.choices))}")
        if each.not_empty and (each.only_with is None or getattr(settings, each.only_with)):
            check_not_empty(name, value)


def check_not_empty(name: str, value: object) -> None:
    """Raise InputError if that setting is given as an empty text, an unset variable perhaps."""
    if value == "":
        raise InputError(f"{flag(name)} is empty: give it a value, or leave the flag out")


def check_limits(kind: type, values: object) -> None:
    """Raise InputError for an attribute of `values` that is out of the limits of that setting of the class `kind`."""
    for name, each in declared(kind).items():
        value = getattr(values, name, None)
        if each.limits and value is not None and not each.limits[0] <= value <= each.limits[1]:
            raise InputError(f"{flag(name)} {value}: must be from {each.limits[0]} to {each.limits[1]}")
