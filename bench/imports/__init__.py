"""Bring what was made elsewhere: predictions and labels, checked and written as immutable files."""
