"""Networks as files for other programs: MXNet's symbol and ONNX, each checked against the network before it is kept."""
