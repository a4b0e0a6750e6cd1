"""DirectRoute: a route of FastAPI's that asks its dependencies itself, one after another, and is done.

FastAPI goes through body, query, headers, cookies, caches, sub-dependencies and exit stacks for each request. The
routes that are asked most have none of these: a submission spends a tenth of its time there. Their OpenAPI comes from
the same signature as ever.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response


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

        async def answer(request: Request) -> Response:
            values = {str(one.name): await _asked(one, request) for one in wanted}
            response: Response = await self.endpoint(request=request, **values)
            return response

        return answer


async def _asked(dependency: Dependant, request: Request) -> Any:
    connection = dependency.request_param_name or dependency.http_connection_param_name
    arguments: dict[str, Any] = {part.name: request.path_params[part.name] for part in dependency.path_params}
    if connection is not None:
        arguments[connection] = request
    assert dependency.call is not None
    return await dependency.call(**arguments)
