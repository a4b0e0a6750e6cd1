"""`/problems/…`, `/docs` and what they need: the pages that people read; and `/asyncapi.json`."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from app.api.live_document import asyncapi
from app.api.pages import PAGE_POLICY, PROBLEMS, REFERENCE, problem_index, problem_page
from app.api.showing import json_response
from app.domain.errors import NotFound

TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
OWN: Final = ("page.css", "docs.js")
READER: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
HOUR: Final = {"Cache-Control": "public, max-age=3600"}

router: Final = APIRouter(include_in_schema=False)


@router.get("/problems")
async def list_problems() -> Response:
    """Return the index of problems."""
    return HTMLResponse(problem_index(), headers=HOUR | PAGE_POLICY)


@router.get("/problems/{slug}")
async def explain_problem(slug: str) -> Response:
    """Return the page that a problem's `type` refers to."""
    if slug not in PROBLEMS:
        raise NotFound
    return HTMLResponse(problem_page(slug), headers=HOUR | PAGE_POLICY)


@router.get("/asyncapi.json")
async def live_document(request: Request) -> Response:
    """Return the AsyncAPI document."""
    return json_response(asyncapi(request.app.openapi()))


@router.get("/docs")
async def reference() -> Response:
    """Return the reader of the OpenAPI document."""
    return HTMLResponse(REFERENCE, headers=PAGE_POLICY)


@router.get("/docs/assets/{name}")
async def reader_asset(name: str) -> Response:
    """Return a file of the reader (Swagger UI, from the package fastapi-swagger)."""
    return _asset(files("fastapi_swagger") / "resources", name, READER)


@router.get("/static/{name}")
async def own_asset(name: str) -> Response:
    """Return a file of ours."""
    return _asset(files("app.api") / "static", name, OWN)


def _asset(folder: Traversable, name: str, known: tuple[str, ...]) -> Response:
    if name not in known:
        raise NotFound
    media_type = TYPES[name[name.rindex(".") :]]
    return Response((folder / name).read_bytes(), headers=HOUR, media_type=media_type)
