"""Fixtures that several tests of votes share; property tests have no deadline, as machines may be busy."""

from hypothesis import settings

from tests.relabel.postgres import _server, postgres_url

__all__ = ["_server", "postgres_url"]

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
