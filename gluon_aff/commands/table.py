"""The table of all commands by name, in the order of --help."""

from __future__ import annotations

from typing import Dict

from gluon_aff.commands import (
    Command,
    ablation,
    doctor,
    export,
    gradcam,
    launch,
    memory,
    networks,
    results,
    segment,
    selectivity,
    training,
    weights,
)

COMMANDS: Dict[str, Command] = {
    **training.COMMANDS,
    **launch.COMMANDS,
    **networks.COMMANDS,
    **memory.COMMANDS,
    **weights.COMMANDS,
    **gradcam.COMMANDS,
    **selectivity.COMMANDS,
    **segment.COMMANDS,
    **export.COMMANDS,
    **results.COMMANDS,
    **ablation.COMMANDS,
    **doctor.COMMANDS,
}
