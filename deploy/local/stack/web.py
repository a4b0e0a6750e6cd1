"""One GET to a server of this machine."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from stack.errors import StackError

# Never through a proxy that the environment names.
_opener = build_opener(ProxyHandler({}))


def status_of(url: str) -> int | None:
    """Return the status of a GET; None without an answer within two seconds."""
    try:
        with _opener.open(url, timeout=2) as answer:
            return int(answer.status)
    except HTTPError as answer:
        answer.close()
        return answer.code
    except OSError:
        return None


def json_of(url: str, *, token: str) -> Any:
    """Return what a GET with a bearer token answers, as JSON values.

    Raises:
        StackError: Anything but a 200 within ten seconds.
    """
    request = Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with _opener.open(request, timeout=10) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:  # an HTTPError is an OSError
        raise StackError(f"{url}: {error}") from error
