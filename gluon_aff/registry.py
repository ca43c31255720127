"""Keep what users add to the package: fusion operators and networks of their own, for either engine."""

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

VARIABLE = "GLUON_AFF_IMPORT"  # names the modules to import, for child processes too
FLAG = "--import"
ENTRY_POINTS = "gluon_aff"  # entry-point group in which installed packages name their modules
_IMPLEMENTATIONS: Dict[Tuple[str, str], Callable[..., Any]] = {}


def register_implementation(name: str, builds: Callable[..., Any]) -> None:
    """Keep an engine's class, or a function that returns an instance of one, under a name.

    Raises:
        InputError: it belongs to neither engine.
    """
    _IMPLEMENTATIONS[name, framework_of(builds)] = builds


def framework_of(builds: Callable[..., Any]) -> str:
    """Return which of `ENGINES` a class, or the return annotation of a function (`-> nn.Module`), is derived from.

    Raises:
        InputError: it is derived from neither engine's base class.
    """
    kind = builds if isinstance(builds, type) else get_type_hints(builds).get("return")
    for each in getattr(kind, "__mro__", ()):
        framework = each.__module__.partition(".")[0]
        if framework in ENGINES:
            return framework
    raise InputError(
        f"{getattr(builds, '__name__', builds)} is neither a class derived from Gluon's HybridBlock or PyTorch's "
        "nn.Module, nor a function whose return annotation (->) is one: make it one of these"
    )


def implementation(name: str, framework: str) -> Callable[..., Any]:
    """Return the class or function that was registered under the name for the framework.

    Raises:
        InputError: none was.
    """
    found = _IMPLEMENTATIONS.get((name, framework))
    if found is None:
        others = " and ".join(other for known, other in _IMPLEMENTATIONS if known == name)
        raise InputError(f"{name} was registered for {others or 'no engine'}, not for {framework}: register one for it")
    return found


def import_registered(argv: List[str]) -> List[str]:
    """Import the modules that `--import` names in the arguments, and those that the environment variable names.

    A module is given as a file, `my_operators.py` (the ending can be left out in the current folder), or as the name of
    an installed module. Child processes import the same modules.

    Returns:
        The other arguments. Everything after `--` belongs to another command and is left as it is.

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
    """Import the modules that installed packages name as entry points.

    Raises:
        InputError: a module cannot be imported.
    """
    found: Any = metadata.entry_points()
    points = found.select(group=ENTRY_POINTS) if hasattr(found, "select") else found.get(ENTRY_POINTS, ())
    for point in points:
        with _naming(f"the entry point {point.name} of the group {ENTRY_POINTS}"):
            point.load()


def _located(name: str) -> str:
    """Return a file's absolute path, so that processes in other folders find it, or else the module's name."""
    for path in (Path(name), Path(f"{name}.py")):
        if path.is_file():
            return str(path.resolve())
    return name


def _import(name: str) -> None:
    with _naming(f"{FLAG} {name}"):
        if not name.endswith(".py"):
            importlib.import_module(name)
        elif name not in sys.modules:  # by path, since the file may have the same name as another module
            loader = SourceFileLoader(name, name)
            module = sys.modules[name] = ModuleType(name)
            module.__file__ = name
            loader.exec_module(module)


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """Turn any error of a user's module into an InputError that begins with `what`."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{what}: {type(error).__name__}: {last_line(error)}") from error
