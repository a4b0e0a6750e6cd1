"""One GET to a server of this machine."""

from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

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
