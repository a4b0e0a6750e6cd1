"""The pages that people read: what a problem means, and the API's reference. No asset comes from elsewhere."""

from html import escape
from typing import Final

from app.api.errors import STATUS, title_of

PROBLEMS: Final = {
    "malformed": (
        "The request cannot be read: the body is empty, not UTF-8, not JSON, has a key twice or is nested too "
        "deep, or a header is broken. Mend the request; repeating it changes nothing."
    ),
    "unauthorized": (
        "A valid bearer token is needed. Send <code>Authorization: Bearer …</code>; if you did, the token has "
        "expired, or was issued by or for somebody else."
    ),
    "insufficient-scope": (
        "The token is valid, but its scopes do not cover this request. The answer's "
        "<code>WWW-Authenticate</code> names the scope that is needed."
    ),
    "not-found": (
        "There is nothing at this path. A task that is another caller's, one that never was and one that has "
        "expired look the same."
    ),
    "method-not-allowed": "The path exists, but not with this method; <code>Allow</code> lists those it has.",
    "not-acceptable": (
        "The answer is <code>application/json</code>, and the request's <code>Accept</code> rules that out."
    ),
    "conflict": "The task's state does not allow this.",
    "not-finished": "The task has not ended yet. Follow its status, and come back when it is COMPLETED.",
    "gone": "It was here and has been removed: results are kept for a limited time.",
    "payload-too-large": "The body is larger than what is taken; the detail names the limit.",
    "unsupported-media-type": (
        "Bodies are <code>application/json</code> in UTF-8, without a <code>Content-Encoding</code>."
    ),
    "range-not-satisfiable": (
        "No byte of the requested range exists; <code>Content-Range</code> gives the file's size."
    ),
    "validation": (
        "The request can be read, but is not what is expected; <code>errors</code> names each field or parameter."
    ),
    "idempotency-key-reused": (
        "This <code>Idempotency-Key</code> was used before, with another body. Use a new key for a new order."
    ),
    "rate-limited": "Too many requests; wait for as long as <code>Retry-After</code> says.",
    "quota-exceeded": "Too many of your tasks are under way; wait until some have ended.",
    "headers-too-large": "The request's header fields are too large together.",
    "internal": (
        "Something went wrong on our side. For a submission: the task may run. Repeat it with the same "
        "<code>Idempotency-Key</code>, and it runs once."
    ),
    "bad-gateway": "The service behind the proxy did not answer as it should. Try again.",
    "queue-full": "The queue is over its depth; nothing was accepted. Try again after <code>Retry-After</code>.",
    "broker-unavailable": (
        "The message broker cannot take the task; nothing was accepted. Try again after <code>Retry-After</code>."
    ),
    "store-unavailable": "The state store does not answer. Try again after <code>Retry-After</code>.",
    "overloaded": "The service has too much to do. Try again after <code>Retry-After</code>.",
    "gateway-timeout": "The service behind the proxy took too long. Try again.",
    "handler-error": "The work itself failed: its handler raised an error.",
    "timeout": "An attempt took longer than the order's <code>timeout_seconds</code>, and its attempts are used up.",
    "out-of-memory": "The work took more memory than a job may have, and its attempts are used up.",
    "stalled": "The work's process stood still, without any sign of life, and its attempts are used up.",
    "cancelled": "The task was stopped because its owner asked for it.",
    "worker-lost": "The workers that ran the task were lost, again and again, and its attempts are used up.",
    "undecryptable": "The sealed order does not open under any known key.",
}
"""Slug to explanation, as HTML."""

PAGE_POLICY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}
"""What a page may load: files of ours, and nothing that stands in the page itself (`data:` is Swagger UI's icons)."""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Longhaul</title>
<link rel="stylesheet" href="/static/page.css">
</head>
<body>
<main>
{content}
</main>
</body>
</html>
"""

REFERENCE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference · Longhaul</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon-32x32.png">
</head>
<body>
<div id="reader"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/static/docs.js"></script>
</body>
</html>
"""


def problem_page(slug: str) -> str:
    """Return the page that explains a problem; KeyError for an unknown one."""
    status = f"HTTP {STATUS[slug]}" if slug in STATUS else "The error of a failed task"
    content = f"""<h1>{escape(title_of(slug))}</h1>
<p class="status">{status} · <code>/problems/{escape(slug)}</code></p>
<p>{PROBLEMS[slug]}</p>
<footer><a href="/problems">All problems</a></footer>"""
    return PAGE.format(title=escape(title_of(slug)), content=content)


def problem_index() -> str:
    """Return the page that lists all problems."""
    rows = "\n".join(
        f'<li><a href="/problems/{slug}">{escape(title_of(slug))}</a> <code>{STATUS.get(slug, "")}</code></li>'
        for slug in PROBLEMS
    )
    return PAGE.format(title="Problems", content=f"<h1>Problems</h1>\n<ul>\n{rows}\n</ul>")
