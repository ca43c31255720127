"""`python -m gluon_aff` is `gluon-aff`."""

import sys

from gluon_aff.cli import main

sys.exit(main())
