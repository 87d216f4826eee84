"""The speed of a training step, of its parts, of data, and the cost of every attention system."""
