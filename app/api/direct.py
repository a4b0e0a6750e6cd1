"""DirectRoute: a route that is reached past FastAPI's router, and asks its dependencies itself.

FastAPI goes through a dozen layers for each request, and for body, query, headers, caches, sub-dependencies and exit
stacks. The routes that are asked most have none of these, and a submission spent a fifth of its time there. They stay
routes of FastAPI's, so that their OpenAPI comes from the same signature as ever.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.dependencies import Part
from app.api.errors import answer_error
from app.domain.errors import LonghaulError


class Fields(Headers):
    """Header fields that are looked up by their names, instead of searched for again and again."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=list(raw))
        self._values: dict[str, list[str]] = {}
        for name, value in self._list:
            self._values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def getlist(self, key: str) -> list[str]:
        """Return the values of all fields of this name, in their order."""
        return self._values.get(key.lower(), [])

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower()][0]

    def __contains__(self, key: Any) -> bool:
        return key.lower() in self._values


class DirectRequest(Request):
    """A request whose header fields are asked for many times."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._fields = Fields(scope["headers"])

    @property
    def headers(self) -> Headers:
        """Its header fields."""
        return self._fields


Ask = Callable[[Request], Coroutine[Any, Any, Any]]


class DirectRoute(APIRoute):
    """For endpoints that take `request` and dependencies, each a coroutine function of the request or of the path."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request; dependencies are asked in the order of the endpoint's arguments.

        Raises:
            TypeError: The endpoint takes what only FastAPI can give it.
        """
        wanted = self.dependant.dependencies
        if self.body_field is not None or self.dependant.query_params or any(one.dependencies for one in wanted):
            raise TypeError(f"{self.path} is no direct route: it takes more than the request and plain dependencies")
        parts = {str(one.name): one.call.name for one in wanted if isinstance(one.call, Part)}
        asked = {str(one.name): _asking(one) for one in wanted if not isinstance(one.call, Part)}

        async def answer(request: Request) -> Response:
            services = request.app.state.services
            values = {name: getattr(services, part) for name, part in parts.items()}
            for name, ask in asked.items():
                values[name] = await ask(request)
            response: Response = await self.endpoint(request=request, **values)
            return response

        return answer


def _asking(dependency: Dependant) -> Ask:
    connection = dependency.request_param_name or dependency.http_connection_param_name
    from_path = [part.name for part in dependency.path_params]
    call = dependency.call
    assert call is not None

    async def ask(request: Request) -> Any:
        arguments: dict[str, Any] = {name: request.path_params[name] for name in from_path}
        if connection is not None:
            arguments[connection] = request
        return await call(**arguments)

    return ask


class DirectEntrance:
    """Middleware: takes requests of direct routes to them, and all others on to the router."""

    def __init__(self, app: ASGIApp, *, routers: Iterable[APIRouter]) -> None:
        self._app = app
        routes = [route for router in routers for route in router.routes if isinstance(route, DirectRoute)]
        self._routes = [(route.methods or set(), route.path_regex, route.get_route_handler()) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for methods, path, answer in self._routes:
                if scope["method"] in methods and (match := path.fullmatch(scope["path"])):
                    scope["path_params"] = match.groupdict()
                    request = DirectRequest(scope, receive, send)
                    try:
                        response = await answer(request)
                    except (LonghaulError, HTTPException) as error:
                        response = await answer_error(request, error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
