"""Export networks for other programs, as MXNet's symbol or as ONNX, after checking that the outputs are equal."""
