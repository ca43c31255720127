"""Hold the MXNet engine: all code that imports mxnet or gluoncv.

Importing this package raises NoEngineError where MXNet cannot work.
"""

from gluon_aff._platform import check_mxnet

check_mxnet()
