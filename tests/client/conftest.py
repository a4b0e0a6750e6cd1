"""Fixtures of the client's tests."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.client import LonghaulClient
from tests.client.faulty import Faulty, faulty_server


@pytest.fixture(scope="session")
async def running_faulty() -> AsyncIterator[Faulty]:
    """One server for all tests: starting and stopping it takes 0.2 s."""
    async with faulty_server() as server:
        yield server


@pytest.fixture
def faulty(running_faulty: Faulty) -> Faulty:
    """A server that misbehaves as the test tells it, and remembers nothing of the test before."""
    running_faulty.seen.clear()
    running_faulty.answers.clear()
    return running_faulty


@pytest.fixture
async def client(faulty: Faulty) -> AsyncIterator[LonghaulClient]:
    """Our client, led to the faulty server."""
    async with LonghaulClient(faulty.url, "a.b.c", patience=timedelta(seconds=10)) as opened:
        yield opened
