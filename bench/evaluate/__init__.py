"""From a model and a dataset to per-image results and their summaries."""
