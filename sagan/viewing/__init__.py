"""Looking into attention: the maps, pictures of them, and a tab of TensorBoard."""
