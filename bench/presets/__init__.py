"""Ready-made datasets and models to add to params.yaml."""
