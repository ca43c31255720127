"""Gluon networks as graphs, and what other programs read of them: MXNet's symbol and ONNX."""
