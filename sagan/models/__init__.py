"""The generator and the discriminator: one class each for every image size, and the tables they are built from."""
