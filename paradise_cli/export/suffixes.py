"""The formats of exported files, known before torch is loaded."""

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
"""What the name of a file ends in, by format."""
