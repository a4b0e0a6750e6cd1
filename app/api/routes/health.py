"""`/healthz` and `/readyz`: for whoever keeps the process alive, and for whoever sends it work."""

from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from app.api.dependencies import HealthService
from app.api.showing import json_response

router: Final = APIRouter(tags=["operations"])


@router.get("/healthz", response_class=Response, summary="Is the process alive?")
async def live() -> Response:
    """Answer; nothing else is asked of anybody."""
    return json_response({"status": "ok"})


@router.get(
    "/readyz",
    response_class=Response,
    summary="Can the process do its work?",
    responses={503: {"description": "A dependency is away; the body says which."}},
)
async def ready(health: HealthService) -> Response:
    """Ask each dependency, and name those that are away."""
    dependencies = await health.dependencies()
    ok = all(dependencies.values())
    states = {name: "ok" if there else "unavailable" for name, there in dependencies.items()}
    body = {"status": "ok" if ok else "unavailable", "dependencies": states}
    return json_response(body, 200 if ok else 503, headers={"Cache-Control": "no-store"})
