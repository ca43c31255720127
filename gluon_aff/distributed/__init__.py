"""Start the processes of a distributed run, and name the ways in which they exchange gradients."""

from __future__ import annotations

import os
import re
from typing import Optional

from gluon_aff.errors import InputError

SINGLE = ("local", "device")
DISTRIBUTED = ("dist_sync", "dist_device_sync")
HOROVOD = "horovod"
KVSTORES = (*SINGLE, *DISTRIBUTED, HOROVOD)


def whole_number(variable: str, default: Optional[int] = None) -> int:
    """Return the number that an environment variable has, or the default where it is not set.

    Raises:
        InputError: it has none; its reader would end the process, or take it for 0 and wait.
    """
    value = os.environ.get(variable, "" if default is None else str(default))
    if not re.fullmatch("[0-9]{1,9}", value):
        raise InputError(
            f"{variable}={value} is no whole number: start the command with gluon-aff launch, which sets it"
        )
    return int(value)
