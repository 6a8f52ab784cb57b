"""What the proof of an ONNX file is made of."""
