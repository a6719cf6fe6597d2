"""The Streamlit dashboard: reads results/bench.duckdb, writes nothing but votes."""
