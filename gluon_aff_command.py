"""The gluon-aff command: one line, and no traceback, where the package cannot be imported.

Outside the package, because importing anything of gluon_aff raises where Python is too old.
"""

from __future__ import annotations

import sys
from typing import Optional


def main(script: str = "gluon-aff", command: Optional[str] = None) -> int:
    """Run `gluon-aff`, or the `script` that is its subcommand `command`; return the exit code."""
    try:
        from gluon_aff.cli import main as run
    except ImportError as error:
        print(f"{script}: error: {error}", file=sys.stderr)
        return 2
    return run(script=script, command=command)


if __name__ == "__main__":
    sys.exit(main())
