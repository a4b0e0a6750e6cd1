"""The application's own table of routes, whatever they were included by: what must have a row in the access tests."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from starlette.routing import Route, WebSocketRoute

from app.main import create_app
from app.settings import Settings
from tests.support.service import configuration


def all_routes() -> set[tuple[str, str]]:
    """Return each route as its method, or `WS`, and its path. HEAD goes with GET."""
    values = configuration("redis://127.0.0.1:1/0", "amqp://127.0.0.1:1/", Path("/nowhere"), 1)
    return set(_walked(create_app(Settings.model_validate(values)).routes))


def _walked(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from _walked(included.routes)
        elif isinstance(route, WebSocketRoute):
            yield "WS", getattr(route, "path_format", route.path)
        elif isinstance(route, Route):
            for method in (route.methods or set()) - {"HEAD"}:
                yield method, route.path_format
        else:
            raise TypeError(f"{route!r} is a kind of route that the access tests do not know")
