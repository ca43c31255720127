"""BibTeX entries of the paper and of this package, which `gluon-aff --cite` prints."""

from __future__ import annotations

from gluon_aff._version import __version__

# README.md has the same entry; a test compares them.
PAPER = """\
@inproceedings{dai21aff,
  title     = {Attentional Feature Fusion},
  author    = {Yimian Dai and Fabian Gieseke and Stefan Oehmcke and Yiquan Wu and Kobus Barnard},
  booktitle = {{IEEE} Winter Conference on Applications of Computer Vision, {WACV} 2021},
  year      = {2021}
}"""

# CITATION.cff has the same title and author; a test compares them.
PACKAGE = f"""\
@misc{{gluon_aff,
  title     = {{{{gluon\\_aff}}: {{Attentional Feature Fusion}}, reproduced in {{MXNet}} and {{PyTorch}}}},
  author    = {{{{The gluon\\_aff authors}}}},
  note      = {{Version {__version__}}},
  year      = {{2026}}
}}"""

CITATION = f"{PAPER}\n\n{PACKAGE}"
