"""`benchmarks` is not installed with the package: it lies beside it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
