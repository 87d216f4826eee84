"""The version of this package. The build reads it from here, and every protocol records it."""

__version__ = "0.1.0"
