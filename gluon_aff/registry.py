"""What users add to the package: fusion operators and networks of their own, for either engine."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Tuple, get_type_hints

from gluon_aff._platform import ENGINES
from gluon_aff.errors import InputError, last_line

VARIABLE = "GLUON_AFF_IMPORT"  # the modules to import, which child processes find there
FLAG = "--import"
ENTRY_POINTS = "gluon_aff"  # the group under which installed packages name theirs
_IMPLEMENTATIONS: Dict[Tuple[str, str], Callable[..., Any]] = {}


def register_implementation(name: str, builds: Callable[..., Any]) -> None:
    """Keep a class of an engine, or a function that returns one's, under a name.

    Raises:
        InputError: it is of neither engine.
    """
    _IMPLEMENTATIONS[name, framework_of(builds)] = builds


def framework_of(builds: Callable[..., Any]) -> str:
    """Which of `ENGINES` a class is made from, or what a function says that it returns (`-> nn.Module`).

    Raises:
        InputError: neither.
    """
    kind = builds if isinstance(builds, type) else get_type_hints(builds).get("return")
    for each in getattr(kind, "__mro__", ()):
        framework = each.__module__.partition(".")[0]
        if framework in ENGINES:
            return framework
    raise InputError(
        f"{getattr(builds, '__name__', builds)} is no class made from Gluon's HybridBlock or PyTorch's nn.Module, and "
        "no function that says by -> that it returns one: make it one"
    )


def implementation(name: str, framework: str) -> Callable[..., Any]:
    """What was registered under the name for the framework.

    Raises:
        InputError: nothing was.
    """
    found = _IMPLEMENTATIONS.get((name, framework))
    if found is None:
        others = " and ".join(other for known, other in _IMPLEMENTATIONS if known == name)
        raise InputError(f"{name} was registered for {others or 'no engine'}, not for {framework}: register one for it")
    return found


def import_registered(argv: List[str]) -> List[str]:
    """Import the modules that `--import` names in the arguments, and those that the environment names.

    A module is a file, `my_operators.py`, also without its ending if it is in the current folder, or the name of an
    installed one. Child processes import the same ones.

    Returns:
        The other arguments; those after `--` are another command's and stay.

    Raises:
        InputError: a module cannot be imported.
    """
    own = argv.index("--") if "--" in argv else len(argv)
    rest: List[str] = []
    names = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    words = iter(argv[:own])
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise InputError(f"{FLAG}: name a module or its file, such as my_operators.py")
        names.append(_located(value))
    names = list(dict.fromkeys(names))
    if names:
        os.environ[VARIABLE] = os.pathsep.join(names)
    for name in names:
        _import(name)
    return rest + argv[own:]


def load_entry_points() -> None:
    """Import what installed packages register.

    Raises:
        InputError: it cannot be imported.
    """
    found: Any = metadata.entry_points()
    points = found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, ())
    for point in points:
        with _naming(f"the entry point {point.name} of the group {ENTRY_POINTS}"):
            point.load()


def _located(name: str) -> str:
    """The absolute path of a file, so that processes in other folders find it, or the module's name."""
    for path in (Path(name), Path(f"{name}.py")):
        if path.is_file():
            return str(path.resolve())
    return name


def _import(name: str) -> None:
    with _naming(f"{FLAG} {name}"):
        if not name.endswith(".py"):
            importlib.import_module(name)
        elif name not in sys.modules:  # by its path: its own name may be that of another module
            loader = SourceFileLoader(name, name)
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = name
            loader.exec_module(module)


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Raise InputError, which names `what`, for any error of a user's module."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {last_line(error)}") from error
