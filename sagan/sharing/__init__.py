"""Trained networks for other programs and people: safetensors, graphs in ONNX and of torch.export, cards, the Hub."""
