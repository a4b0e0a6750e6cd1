"""`/dashboard`: the browser's door. Static files; everything they show comes from `/v1` with the visitor's own token.

The page is the same at each of its addresses. Its files are addressed by a digest over all of them, so a browser keeps
them for good and still never mixes two versions.
"""

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.dependencies import TaskId
from app.api.showing import matches
from app.domain.errors import NotFound

TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
INDEX: Final = "index.html"
VIEWS: Final = frozenset({"submit", "all-tasks", "queues", "workers", "stalled", "dead-letters"})

# Nothing inline, nothing from elsewhere, no string ever becomes markup, and no other site may frame the page.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
SECURITY: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
FOR_GOOD: Final = "public, max-age=31536000, immutable"

router: Final = APIRouter(include_in_schema=False)


def _read(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found |= _read(entry, f"{prefix}{entry.name}/")
        elif entry.name == INDEX or entry.name.rpartition(".")[2] in TYPES:
            found[f"{prefix}{entry.name}"] = entry.read_bytes()
    return found


FILES: Final = _read(files("app") / "dashboard")
DIGEST: Final = sha256(b"\0".join(part for name in sorted(FILES) for part in (name.encode(), FILES[name]))).hexdigest()[
    :16
]
MODULES: Final = "\n".join(
    f'<link rel="modulepreload" href="/dashboard/assets/{DIGEST}/{name}">'
    for name in sorted(FILES)
    if name.endswith(".js") and name not in ("theme.js", "main.js")
)
PAGE: Final = (
    FILES[INDEX]
    .replace(b"{assets}", f"/dashboard/assets/{DIGEST}".encode())
    .replace(b"<!-- modules -->", MODULES.encode())
)


@router.get("/dashboard")
async def dashboard(request: Request) -> Response:
    """Return the page."""
    return _page(request)


@router.get("/dashboard/tasks/{task_id}")
async def task_page(request: Request, _: TaskId) -> Response:
    """Return the page, which shows a task. Whether there is such a task is not told without a token."""
    return _page(request)


@router.get("/dashboard/{view}")
async def view(request: Request, view: str) -> Response:
    """Return the page, which opens this view."""
    if view not in VIEWS:
        raise NotFound
    return _page(request)


@router.get("/dashboard/assets/{digest}/{name:path}")
async def asset(digest: str, name: str) -> Response:
    """Return a file of the page. While two versions run side by side, the other's files are not mixed with ours."""
    kind = name.rpartition(".")[2]
    if digest != DIGEST or name not in FILES or kind not in TYPES:
        raise NotFound
    return Response(FILES[name], headers={**SECURITY, "Cache-Control": FOR_GOOD}, media_type=TYPES[kind])


def _page(request: Request) -> Response:
    headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": f'"{DIGEST}"'}
    if matches(request.headers.getlist("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(PAGE, headers=headers, media_type="text/html")
