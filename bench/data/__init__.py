"""Where images, labels and their conditions come from."""
