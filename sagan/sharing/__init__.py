"""Trained networks for other programs and other people: graphs in ONNX and of torch.export."""
