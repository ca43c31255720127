"""Hold the MXNet engine: all code that imports mxnet or gluoncv.

Importing this package raises NoEngineError where MXNet cannot work.
"""

from gluon_aff._platform import check_mxnet
from gluon_aff.gluon.imports import out_of_sight

check_mxnet()
with out_of_sight("sklearn"):  # a third of the time of MXNet's import, for FeedForward, which nothing here uses
    import mxnet  # noqa: F401
