"""Trace Gluon networks to graphs, and write them in the formats of MXNet's symbols and ONNX."""
