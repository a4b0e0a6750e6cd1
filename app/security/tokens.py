"""Tokens: bearer JWTs in, task tokens out. The only module that knows python-jose.

python-jose accepts much by default: any algorithm when none is named, tokens without `exp` or `aud`, and it raises
errors of other kinds on hostile input. So the header is read and checked here first, exactly one algorithm and one
key are passed on, every claim that we need is required, its type checked again, and any failure is a plain 401.
JWT: RFC 7519. Best practice: RFC 8725. Access tokens: RFC 9068.
"""

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from jose import jwt

from app.domain.errors import Unauthorized
from app.domain.task import Owner
from app.security.principal import DEFAULT_SCOPES, Principal, Scope

MAX_TOKEN_BYTES: Final = 8192
SEGMENTS: Final = 3
ACCESS_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
TASK_TYPE: Final = "task+jwt"
TASK_ALGORITHM: Final = "HS256"
FORBIDDEN_HEADERS: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c"})

REQUIRED: Final = {"require_exp": True, "require_sub": True, "require_iss": True, "require_aud": True}


class TokenVerifier:
    """Turns a bearer token into a Principal, or refuses it."""

    def __init__(
        self,
        *,
        algorithm: str,
        key: str,
        issuer: str,
        audience: str,
        leeway_seconds: int,
        task_key: bytes,
    ) -> None:
        """Take what tokens are held against.

        Args:
            algorithm: The only one accepted for access tokens.
            key: The secret (HS256) or the public key in PEM (RS256, ES256).
            issuer: What `iss` must be.
            audience: What `aud` must be, or contain.
            leeway_seconds: By how much clocks may differ.
            task_key: Signs task tokens; no access token is ever accepted under it.
        """
        self._algorithm = algorithm
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._options = REQUIRED | {"leeway": leeway_seconds}
        self._leeway = leeway_seconds
        self._task_key = task_key.hex()

    def verify(self, token: str) -> Principal:
        """Return who holds this token.

        Raises:
            Unauthorized: It is not a token that this service accepts, for whatever reason.
        """
        try:
            return self._verify(token)
        except Unauthorized:
            raise
        except Exception as error:  # hostile input makes python-jose raise errors of many kinds
            raise Unauthorized("The bearer token is not valid.", token_was_sent=True) from error

    def _verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES or token.count(".") != SEGMENTS - 1:
            raise ValueError("not of the size or shape of a token")
        header = _header(token)
        kind = str(header.get("typ", "JWT")).lower()
        if kind == TASK_TYPE:
            claims = self._claims(token, header, TASK_ALGORITHM, self._task_key)
            owner = Owner(issuer=_text(claims, "owner_iss"), subject=_text(claims, "sub"))
            only_task = UUID(_text(claims, "task_id"))
            return Principal(owner, frozenset({Scope.READ, Scope.SUBMIT}), claims["exp"], only_task)
        if kind not in ACCESS_TYPES:
            raise ValueError("not an access token")
        claims = self._claims(token, header, self._algorithm, self._key)
        scopes = frozenset(_scope(claims).split()) if "scope" in claims else DEFAULT_SCOPES
        return Principal(Owner(issuer=self._issuer, subject=_text(claims, "sub")), scopes, claims["exp"])

    def _claims(self, token: str, header: Mapping[str, Any], algorithm: str, key: str) -> dict[str, Any]:
        if header.get("alg") != algorithm or FORBIDDEN_HEADERS & header.keys():
            raise ValueError("another algorithm than ours, or a header that may name a key")
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], audience=self._audience, issuer=self._issuer, options=self._options
        )
        now = time.time()
        for name in ("exp", "nbf", "iat"):
            if name in claims and (isinstance(claims[name], bool) or not isinstance(claims[name], int | float)):
                raise ValueError(f"{name} is not a number")
        if claims.get("iat", 0) > now + self._leeway:
            raise ValueError("issued in the future")
        claims["exp"] = int(claims["exp"])
        return claims


class TaskTokenIssuer:
    """Mints task tokens: each opens one task, for its owner."""

    def __init__(self, *, key: bytes, issuer: str, audience: str, ttl_seconds: int) -> None:
        self._key = key.hex()
        self._issuer = issuer
        self._audience = audience
        self._ttl_seconds = ttl_seconds

    def issue(self, task_id: UUID, owner: Owner) -> str:
        """Return a token (`typ: task+jwt`) that opens this task's status, events, result and cancellation."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": owner.subject,
            "owner_iss": owner.issuer,
            "task_id": str(task_id),
            "iat": now,
            "exp": now + self._ttl_seconds,
        }
        return jwt.encode(claims, self._key, algorithm=TASK_ALGORITHM, headers={"typ": TASK_TYPE})


def mint_access_token(
    *, secret: str, issuer: str, audience: str, subject: str, scopes: str | None, ttl_seconds: int
) -> str:
    """Return an HS256 access token, for development: in production an identity provider issues them."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + ttl_seconds}
    if scopes is not None:
        claims["scope"] = scopes
    return jwt.encode(claims, secret, algorithm="HS256")


def _header(token: str) -> dict[str, Any]:
    first = token.partition(".")[0]
    header = json.loads(urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    if not isinstance(header, dict):
        raise TypeError("the header is not an object")
    return header


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims[name]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is not a text")
    value.encode()  # half of a surrogate pair is no character
    return value


def _scope(claims: Mapping[str, Any]) -> str:
    """Return the claim `scope`, which may be empty: such a token opens nothing."""
    value = claims["scope"]
    if not isinstance(value, str):
        raise TypeError("scope is not a text")
    return value
