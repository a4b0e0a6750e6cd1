"""Fixtures of the command line's tests: the fault injector is the client's."""

from tests.client.conftest import faulty, running_faulty

__all__ = ["faulty", "running_faulty"]
