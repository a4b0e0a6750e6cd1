"""`GET /v1/actions`: what can be asked for."""

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.bodies import require_json_accepted
from app.api.dependencies import Catalogue, Configuration, Reader
from app.api.documents import problems
from app.api.showing import json_response
from app.domain.action import Action

router: Final = APIRouter(tags=["actions"])


@router.get(
    "/v1/actions",
    response_class=Response,
    summary="List the actions",
    responses={200: {"description": "Each action's name, queue, JSON schema and limits."}, **problems(406)},
)
async def list_actions(request: Request, _: Reader, catalogue: Catalogue, settings: Configuration) -> Response:
    """Return the catalogue of actions, with the JSON schema of each one's body and the limits that hold for it."""
    require_json_accepted(request)
    limits = {"max_body_bytes": settings.api.max_body_bytes, "max_attempts": settings.max_attempts}
    return json_response({"items": [_described(action, limits) for action in catalogue]})


def _described(action: type[Action], limits: dict[str, int]) -> dict[str, Any]:
    return {
        "action": action.action_name,
        "queue": action.queue_name,
        "description": (action.__doc__ or "").strip(),
        "schema": action.model_json_schema(),
        "limits": limits,
    }
