"""People and models correcting labels together."""
