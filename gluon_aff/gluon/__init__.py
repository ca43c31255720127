"""The MXNet engine: all that imports mxnet or gluoncv. Importing it raises NoEngineError where MXNet cannot work."""

from gluon_aff._platform import check_mxnet

check_mxnet()
