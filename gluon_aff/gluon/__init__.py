"""The MXNet engine: all that imports mxnet or gluoncv."""
