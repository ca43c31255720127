"""The rows of the paper's ablations (Tables 3 and 4, Fig. 7), and the commands that train them.

This module imports no NumPy, so that --help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from gluon_aff.errors import InputError
from gluon_aff.operators import fusion_operator

MOST_BLOCKS = 4

# The recipe of the paper's Table 2, with the decay epochs, inner widths and shortcuts of the original's first release.
# Mixup was most likely off.
_CIFAR = (
    "--dataset cifar100 --superclass --channel-times 1 --batch-size 128 --lr 0.2 --warmup-epochs 0 --init msraprelu"
)
_DECAY = (3 / 4, 7 / 8)  # shares of the epochs after which the learning rate is reduced


@dataclass(frozen=True)
class Host:
    """A network in which the paper compares fusions.

    Attributes:
        model: name for `get_model`, with {} for the number of blocks.
        column: prefix of its columns in the paper's tables.
        command: subcommand of `gluon-aff` that trains it.
        recipe: flags of the paper's recipe.
        epochs: number of epochs in the paper's recipe.
        decays: shares of the epochs after which the learning rate is reduced.
        score: column of the log whose best value counts, and its printed name.
        figure_7: fusions in its part of Fig. 7.
    """

    model: str
    column: str
    command: str
    recipe: Tuple[str, ...]
    epochs: int
    decays: Tuple[float, ...]
    score: Tuple[str, str]
    figure_7: Tuple[str, ...]


ABLATION_HOSTS: Dict[str, Host] = {
    "inception": Host(
        "inception_resnet20_b{}",
        "inception_cifar100",
        "train-cifar",
        (*_CIFAR.split(), "--model", "inception", "--inner", "legacy"),
        400,
        _DECAY,
        ("val_acc", "accuracy"),
        ("Concatenation", "SKNet", "AFF", "iAFF"),
    ),
    "resnet": Host(
        "resnet20_b{}",
        "resnet_cifar100",
        "train-cifar",
        (*_CIFAR.split(), "--model", "resnet", "--shortcut", "strided"),
        400,
        _DECAY,
        ("val_acc", "accuracy"),
        ("Add", "SENet", "AFF", "iAFF"),
    ),
    "fpn": Host(
        "resnet20_fpn_b{}",
        "fpn_stopsign",
        "train-segmentation",
        ("--batch-size", "32", "--lr", "0.01"),
        300,
        (),
        ("val_iou", "IoU"),
        ("Add", "GAU", "AFF", "iAFF"),
    ),
}
TABLE_3 = {"Global+Global": "Global + Global", "Local+Local": "Local + Local", "AFF": "Global + Local"}
TABLE_4 = ("Add", "Concatenation", "MS-GAU", "MS-SENet", "MS-SA", "AFF", "iAFF")
TABLES = ("table3", "table4", "fig7")


@dataclass(frozen=True)
class Row:
    """One training run of an ablation.

    Attributes:
        fusion: name of the fusion operator.
        paper_name: name of the row in the paper's table.
        r: channel reduction ratio.
        blocks: number of blocks in each stage.
        seed: seed of the run.
        paper: the paper's score, 0..1; None where the paper prints none.
    """

    fusion: str
    paper_name: str
    r: int
    blocks: int
    seed: int
    paper: Optional[float]

    @property
    def folder(self) -> str:
        """Return the name of the folder in which the row is trained."""
        return f"{self.fusion}-b{self.blocks}-seed{self.seed}"


def rows_of(
    table: str,
    host: str,
    blocks: Sequence[int],
    seeds: Sequence[int],
    r: Optional[int] = None,
    fusions: Optional[Sequence[str]] = None,
) -> List[Row]:
    """Return the rows of a table in its order; rows that differ only in the seed follow one another.

    Args:
        table: one of `TABLES`.
        host: one of `ABLATION_HOSTS`.
        blocks: numbers of blocks in each stage.
        seeds: seeds of the runs.
        r: channel reduction ratio; the paper's if None.
        fusions: fusion operators to compare, which the paper's table need not have; all of the table if None.

    Raises:
        InputError: a fusion is unknown.
    """
    from gluon_aff.published import paper_tables

    if table == "table3":
        names, published = TABLE_3, "aff_table3_context_scale"
    else:
        names = {name: name for name in (TABLE_4 if table == "table4" else ABLATION_HOSTS[host].figure_7)}
        published = "aff_table4_fusion_strategy"  # Fig. 7 prints no numbers, but Table 4 has those of its baselines
    for fusion in fusions or ():
        if fusion not in names:
            names = {**names, fusion: fusion_operator(fusion).name}
    figures = paper_tables()[published]
    rows = []
    for fusion, paper_name in names.items():
        if fusions and fusion not in fusions:
            continue
        for b in blocks:
            comparable = table != "fig7" or fusion in ("Add", "Concatenation")
            paper = _figure(figures, paper_name, f"{ABLATION_HOSTS[host].column} b{b}") if comparable else None
            rows += [Row(fusion, paper_name, r or _paper_r(table, fusion), b, seed, paper) for seed in seeds]
    return rows


def _paper_r(table: str, fusion: str) -> int:
    """Return the channel reduction ratio that the paper uses.

    It is 2 in Tables 3 and 4 for an equal number of parameters, but 4 for iAFF, which has twice the branches (Section
    5.1.2). It is 4 in Fig. 7 (Table 2).
    """
    return 4 if table == "fig7" or fusion == "iAFF" else 2


def _figure(table: Any, row: str, column: str) -> Optional[float]:
    return dict(zip(table.columns, table.rows.get(row, ()))).get(column)


# The ablation sets these itself: they define a row, or tell where its files are
ROW_FLAGS = (
    *("--fusion", "--askc-type", "--r", "--blocks", "--seed", "--num-epochs", "--model", "--save-dir", "--logging-dir"),
    *("--save-plot-dir", "--resume", "--summary"),
)


def _is_rows(flag: str) -> bool:
    """Return whether `flag` is one of `ROW_FLAGS` or an abbreviation of one; --mode is an option of its own."""
    return flag not in ("--", "--mode") and any(each.startswith(flag) for each in ROW_FLAGS)


def training_flags(row: Row, host: Host, epochs: Optional[int], more: Sequence[str]) -> List[str]:
    """Return the arguments of `gluon-aff` that train `row` in the current folder.

    Args:
        row: the row to train.
        host: network of the row.
        epochs: number of epochs; the paper's if None.
        more: flags of the user, which override those of the recipe.

    Raises:
        InputError: `more` has a flag that the ablation sets itself.
    """
    own = [word for word in more if word.startswith("--") and _is_rows(word.partition("=")[0])]
    if own:
        raise InputError(f"--flags {' '.join(own)}: the ablation sets this itself; leave it out")
    epochs = epochs or host.epochs
    cuts = ",".join(str(max(int(share * epochs), 1)) for share in host.decays)
    return [
        host.command,
        *("--fusion", row.fusion, "--r", str(row.r), "--blocks", str(row.blocks), "--seed", str(row.seed)),
        *host.recipe,
        *("--num-epochs", str(epochs)),
        *(("--lr-decay-epoch", cuts) if cuts else ()),
        *("--save-dir", ".", "--logging-dir", ".", "--save-plot-dir", ".", "--keep-one-best", "--resume", "auto"),
        *more,
    ]
