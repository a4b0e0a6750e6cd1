"""What a caller is told of its limits (RateLimit header fields, draft-ietf-httpapi-ratelimit-headers)."""

from typing import NamedTuple


class RateStatus(NamedTuple):
    """An owner's submission rate, after a request has taken its unit."""

    quota: int
    """Units in a full bucket."""
    window_seconds: int
    """In which an empty bucket fills."""
    remaining: int
    """Units that are left."""
    next_unit_seconds: int
    """Whole seconds, 1 or more, until there is one more."""
