"""Draw the pictures of the documents, from the published figures and the output of `make demo-imagenet`.

`make pictures` runs this module. With the same version of Matplotlib, the same figures give the same files, byte for
byte.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Callable, Dict

from gluon_aff.errors import GluonAFFError
from gluon_aff.files import replacing
from tools.pictures.comparison import draw_comparison
from tools.pictures.errors import draw_errors
from tools.pictures.fusion_modules import draw_fusion_modules
from tools.pictures.heat_maps import check_demo, demo_heat_maps, draw_heat_maps
from tools.pictures.theme import THEMES, Theme

ROOT = Path(__file__).parents[2]
DRAWINGS: Dict[str, Callable[[Theme], Any]] = {
    "comparison": draw_comparison,
    "errors": draw_errors,
    "fusion-modules": draw_fusion_modules,
}
HEAT_MAPS = "heatmaps"
DOTS_PER_INCH = 144  # the heat maps become 960 pixels wide


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    names = [*DRAWINGS, HEAT_MAPS]
    parser = argparse.ArgumentParser(
        prog="python -m tools.pictures",
        description="Draw the pictures of the documents: NAME-light.svg and NAME-dark.svg from the published figures, "
        f"and {HEAT_MAPS}.jpg, for pages of either kind, from the folder that `make demo-imagenet` wrote.",
    )
    parser.add_argument(
        "names", nargs="*", default=names, metavar="NAME", help=f"which pictures (default: all of {', '.join(names)})"
    )
    parser.add_argument(
        "--demo", type=Path, default=Path("demo/imagenet"), metavar="DIR", help="that folder (default: %(default)s)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=ROOT / "docs/pictures",
        metavar="DIR",
        help="where to (default: docs/pictures)",
    )
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"there is no picture {unknown[0]}; there are {', '.join(names)}")
    return options


def write_svg(figure: Any, path: Path) -> None:
    """Write a figure as SVG with a transparent background, and with text as shapes, so that it needs no fonts."""
    import matplotlib

    style = {"svg.hashsalt": path.stem, "svg.fonttype": "path"}
    with matplotlib.rc_context(style), replacing(str(path)) as partial:
        figure.savefig(partial, format="svg", transparent=True, metadata={"Date": None})


def write_jpeg(figure: Any, path: Path) -> None:
    """Write a figure as JPEG; it must cover its whole area, since JPEG has no transparency."""
    with replacing(str(path)) as partial:
        figure.savefig(partial, format="jpeg", dpi=DOTS_PER_INCH, pil_kwargs={"quality": 80, "optimize": True})


def draw(options: argparse.Namespace) -> None:
    """Write the pictures that the options name.

    Raises:
        InputError: the options name the heat maps, but there is no demo to draw them from.
    """
    if HEAT_MAPS in options.names:
        check_demo(options.demo)
        write_jpeg(draw_heat_maps(demo_heat_maps(options.demo)), options.output / f"{HEAT_MAPS}.jpg")
    for name in set(options.names) - {HEAT_MAPS}:
        for theme in THEMES:
            write_svg(DRAWINGS[name](theme), options.output / f"{name}-{theme.name}.svg")


def main() -> int:
    """Run the command and return its exit code."""
    options = parse_arguments()
    try:
        draw(options)
    except GluonAFFError as error:
        print(f"pictures: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
