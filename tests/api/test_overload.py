"""A process that has enough to do says so at once, and is not taken for dead."""

import asyncio
import json

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.api.middleware import RequestContext
from app.api.overload import RequestPlaces
from app.domain.errors import Overloaded
from app.service.watcher_places import WatcherPlaces
from tests.api.problems import problem_of
from tests.support.waiting import wait_until


async def test_requests_beyond_the_limit_are_refused_until_others_have_ended() -> None:
    free, waiting = asyncio.Event(), 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal waiting
        if scope["path"] == "/slow":
            waiting += 1
            await free.wait()
        await PlainTextResponse("done")(scope, receive, send)

    app = RequestContext(RequestPlaces(slow, total=2))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client:
        under_way = [asyncio.create_task(client.get("/slow")) for _ in range(2)]

        async def both_wait() -> bool:
            return waiting == 2

        await wait_until(both_wait, what="both requests")
        refused = await client.get("/v1/actions")
        assert json.loads(refused.content)["detail"]
        problem_of(refused, "overloaded")
        assert (await client.get("/healthz")).status_code == 200
        free.set()
        assert [answer.status_code for answer in await asyncio.gather(*under_way)] == [200, 200]
        assert (await client.get("/v1/actions")).status_code == 200


def test_a_place_is_given_back_whatever_happens() -> None:
    places = WatcherPlaces(total=2, each=1)
    with pytest.raises(ZeroDivisionError), places.hold("alice"):
        raise ZeroDivisionError
    with places.hold("alice"):
        with pytest.raises(Overloaded), places.hold("alice"):
            pass
        with places.hold("bob"), pytest.raises(Overloaded), places.hold("carol"):
            pass
        with places.hold("carol"):
            pass
    assert not places._taken
