"""TensorRT's rules, held against an ONNX graph where TensorRT itself cannot run."""
