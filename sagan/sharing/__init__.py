"""Trained networks for other programs and people: graphs in ONNX and of torch.export, model cards, the Hub."""
