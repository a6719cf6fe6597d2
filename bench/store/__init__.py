"""Parquet is the truth, DuckDB a view of it, a snapshot a version of both."""
