"""Why a server does not answer, in words for an operator."""

import ssl


def cause_of(error: BaseException) -> str:
    """Return the reason that says most: that a certificate is not trusted, and why, or else the error's own words."""
    following: BaseException | None = error
    seen: set[int] = set()  # aiormq chains its errors in a circle: a reset connection's is the cause of its own context
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        if isinstance(following, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({following.verify_message.rstrip('.')})"
        if isinstance(following, ssl.SSLError) and following.reason:
            return f"TLS failed ({following.reason.replace('_', ' ').lower()})"
        following = following.__cause__ or following.__context__
    return str(error) or type(error).__name__
