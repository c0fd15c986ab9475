"""ONNX in: a model file becomes a graph."""
