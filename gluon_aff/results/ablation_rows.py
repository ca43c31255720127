"""The rows of the paper's ablations (Tables 3 and 4, Fig. 7), and how each is trained; imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from gluon_aff.errors import InputError
from gluon_aff.operators import fusion_operator

MOST_BLOCKS = 4

# Paper, Table 2. Decay epochs, inner widths and shortcuts are the first release's; mixup was most likely off.
_CIFAR = (
    "--dataset cifar100 --superclass --channel-times 1 --batch-size 128 --lr 0.2 --warmup-epochs 0 --init msraprelu"
)
_DECAY = (3 / 4, 7 / 8)  # of the epochs


@dataclass(frozen=True)
class Host:
    """A network that the paper compares fusions in.

    Attributes:
        model: name of its members, for `get_model`.
        column: what its columns in the paper's tables start with.
        command: subcommand that trains it.
        recipe: its flags.
        epochs: of that recipe.
        decays: shares of the epochs behind which the learning rate falls.
        score: column of the log whose best value counts, and its name in print.
        figure_7: fusions of its part of Fig. 7.
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
    """A network of a table, trained once.

    Attributes:
        fusion: operator.
        paper_name: of the table's row.
        r: channel reduction ratio.
        blocks: in each stage.
        seed: of the run.
        paper: the paper's score (0..1), None where it prints none.
    """

    fusion: str
    paper_name: str
    r: int
    blocks: int
    seed: int
    paper: Optional[float]

    @property
    def folder(self) -> str:
        """Name of the folder of its run."""
        return f"{self.fusion}-b{self.blocks}-seed{self.seed}"


def rows_of(
    table: str,
    host: str,
    blocks: Sequence[int],
    seeds: Sequence[int],
    r: Optional[int] = None,
    fusions: Optional[Sequence[str]] = None,
) -> List[Row]:
    """Rows of a table in its order, those of a network's seeds together.

    Args:
        table: one of `TABLES`.
        host: one of `ABLATION_HOSTS`.
        blocks: in each stage.
        seeds: of the runs.
        r: channel reduction ratio; the paper's if None.
        fusions: rows to have, also of operators that the table lacks; the table's if None.

    Raises:
        InputError: for an unknown fusion.
    """
    from gluon_aff.published import paper_tables

    if table == "table3":
        names, published = TABLE_3, "aff_table3_context_scale"
    else:
        names = {name: name for name in (TABLE_4 if table == "table4" else ABLATION_HOSTS[host].figure_7)}
        published = "aff_table4_fusion_strategy"  # Fig. 7 prints no numbers; its baselines stand in Table 4
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
    """Section 5.1.2: 2 for equal budgets, 4 for iAFF, which has twice the branches; Table 2: 4."""
    return 4 if table == "fig7" or fusion == "iAFF" else 2


def _figure(table: Any, row: str, column: str) -> Optional[float]:
    return dict(zip(table.columns, table.rows.get(row, ()))).get(column)


# They say what a row is, and where the ablation looks for its log
ROW_FLAGS = (
    *("--fusion", "--askc-type", "--r", "--blocks", "--seed", "--num-epochs", "--model", "--save-dir", "--logging-dir"),
    *("--save-plot-dir", "--resume", "--summary"),
)


def _is_rows(flag: str) -> bool:
    """Whether it is one of `ROW_FLAGS` or short for one; --mode is not short for --model."""
    return flag not in ("--", "--mode") and any(each.startswith(flag) for each in ROW_FLAGS)


def training_flags(row: Row, host: Host, epochs: Optional[int], more: Sequence[str]) -> List[str]:
    """Arguments of `gluon-aff` that train `row` in the folder it is run in; `more` flags overrule the recipe's.

    Raises:
        InputError: if `more` says what the row is, or where its files are.
    """
    own = [word for word in more if word.startswith("--") and _is_rows(word.partition("=")[0])]
    if own:
        raise InputError(f"--flags {' '.join(own)}: the ablation itself says that; leave it out")
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
