"""Attacks: one masked iterative loop and the things it is made of."""
