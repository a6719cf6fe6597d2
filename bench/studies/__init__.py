"""The analyses of the ten studies, one module each."""
