"""Looking into attention: what maps there are, pictures of them, and a tab of TensorBoard."""
