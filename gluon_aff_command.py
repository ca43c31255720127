"""Entry point of `gluon-aff`, which prints one line instead of a traceback if the package cannot be imported.

It is not inside the package, because importing any part of gluon_aff raises an error if Python is too old.
"""

from __future__ import annotations

import sys
from typing import Optional


def main(script: str = "gluon-aff", command: Optional[str] = None) -> int:
    """Run `gluon-aff`, or its subcommand `command` under the name `script`; return the exit code."""
    try:
        from gluon_aff.cli import main as run
    except ImportError as error:
        print(f"{script}: error: {error}", file=sys.stderr)
        return 2
    return run(script=script, command=command)


if __name__ == "__main__":
    sys.exit(main())
