"""Run `gluon-aff` as `python -m gluon_aff`."""

import sys

from gluon_aff.cli import main

sys.exit(main())
