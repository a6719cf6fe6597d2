"""Fixtures that several tests of votes share."""

from tests.relabel.postgres import _server, postgres_url

__all__ = ["_server", "postgres_url"]
