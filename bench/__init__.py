"""Second Look: what is left of an image-classification result when one looks again."""

__version__ = "0.1.0"
