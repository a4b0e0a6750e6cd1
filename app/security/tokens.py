"""Tokens: bearer JWTs in, task tokens out. The only module that knows python-jose.

python-jose accepts much by default: any algorithm when none is named, tokens without `exp` or `aud`, and it raises
errors of other kinds on hostile input. So the header is read and checked here first, exactly one algorithm and one
key are passed on, every claim that we need is required, its type checked again, and any failure is a plain 401.
JWT: RFC 7519. Best practice: RFC 8725. Access tokens: RFC 9068.
"""

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

from jose import jwt

from app.domain.errors import Unauthorized, Unavailable
from app.domain.task import Owner, id_text
from app.security.key_sets import KeySource
from app.security.principal import DEFAULT_SCOPES, Principal, Scope
from app.security.task_tokens import SCOPES, TaskTokenKeys

MAX_TOKEN_BYTES: Final = 8192
SEGMENTS: Final = 3
STRICT_ACCESS_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
ACCESS_TYPES: Final = STRICT_ACCESS_TYPES | {"jwt"}
TASK_TYPE: Final = "task+jwt"
TASK_ALGORITHM: Final = "HS256"
FORBIDDEN_HEADERS: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c"})
LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999: no moment and no span can be reckoned with beyond it."""
REMEMBERED: Final = 10_000
"""How many verified tokens are remembered, at about half a kilobyte each."""

REQUIRED: Final = {"require_exp": True, "require_sub": True, "require_iss": True, "require_aud": True}


class TokenVerifier:
    """Turns a bearer token into a Principal, or refuses it."""

    def __init__(
        self,
        *,
        algorithm: str,
        keys: KeySource,
        issuer: str,
        audience: str,
        leeway_seconds: int,
        task_keys: TaskTokenKeys,
        only_access_tokens: bool = False,
    ) -> None:
        """Take what tokens are held against.

        Args:
            algorithm: The only one accepted for access tokens.
            keys: The secret (HS256), or public keys in PEM (RS256, ES256).
            issuer: What `iss` must be.
            audience: What `aud` must be, or contain.
            leeway_seconds: By how much clocks may differ.
            task_keys: Sign task tokens; no access token is ever accepted under one.
            only_access_tokens: Whether `typ` must say `at+jwt` (RFC 9068), so that an ID token never passes.
        """
        self._algorithm = algorithm
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._options = REQUIRED | {"leeway": leeway_seconds}
        self._leeway = leeway_seconds
        self._task_keys = task_keys
        self._access_types = STRICT_ACCESS_TYPES if only_access_tokens else ACCESS_TYPES
        self._verified: dict[bytes, tuple[Principal, int]] = {}

    async def verify(self, token: str) -> Principal:
        """Return who holds this token. What was verified is remembered, by its digest, for as long as it is good.

        Raises:
            Unauthorized: It is not a token that this service accepts, for whatever reason.
            StoreUnavailable: No key to verify it with can be had.
        """
        try:
            digest = sha256(token.encode()).digest()
            if (known := self._remembered(digest)) is not None:
                return known
            generation = self._keys.generation
            principal = await self._verify(token)
        except (Unauthorized, Unavailable):
            raise
        except Exception as error:  # hostile input makes python-jose raise errors of many kinds
            raise Unauthorized("The bearer token is not valid.", token_was_sent=True) from error
        if len(self._verified) >= REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = principal, generation
        return principal

    def _remembered(self, digest: bytes) -> Principal | None:
        found = self._verified.get(digest)
        if found is None:
            return None
        principal, generation = found
        # A key that was withdrawn takes its tokens with it.
        if generation == self._keys.generation and time.time() < principal.expires_at + self._leeway:
            return principal
        del self._verified[digest]
        return None

    async def _verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES or token.count(".") != SEGMENTS - 1:
            raise ValueError("not of the size or shape of a token")
        header = _part(token, 0)
        kind = str(header.get("typ", "JWT")).lower()
        if kind == TASK_TYPE:
            return self._of_task(token, header)
        if kind not in self._access_types:
            raise ValueError("not an access token")
        _require_plain(header, self._algorithm)
        key = await self._keys.key_for(header.get("kid"))
        if key is None:
            raise ValueError("signed under an unknown key")
        claims = self._claims(token, self._algorithm, key)
        scopes = frozenset(_scope(claims).split()) if "scope" in claims else DEFAULT_SCOPES
        return Principal(Owner(issuer=self._issuer, subject=_text(claims, "sub")), scopes, claims["exp"])

    def _of_task(self, token: str, header: Mapping[str, Any]) -> Principal:
        """Verify a task token; what it says of its task and scopes chooses the key, and so proves itself."""
        _require_plain(header, TASK_ALGORITHM)
        said = _part(token, 1)
        only_task, scopes = UUID(_text(said, "task_id")), _text(said, "scope")
        claims = self._claims(token, TASK_ALGORITHM, self._task_keys.key(_text(header, "kid"), only_task, scopes))
        owner = Owner(issuer=_text(claims, "owner_iss"), subject=_text(claims, "sub"))
        return Principal(owner, frozenset(scopes.split()) - {Scope.ADMIN}, claims["exp"], only_task)

    def _claims(self, token: str, algorithm: str, key: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], audience=self._audience, issuer=self._issuer, options=self._options
        )
        now = time.time()
        for name in ("exp", "nbf", "iat"):
            if name in claims and (isinstance(claims[name], bool) or not isinstance(claims[name], int | float)):
                raise ValueError(f"{name} is not a number")
        if claims.get("iat", 0) > now + self._leeway:
            raise ValueError("issued in the future")
        claims["exp"] = min(int(claims["exp"]), LAST_SECOND)
        return claims


class TaskTokenIssuer:
    """Mints task tokens: each opens one task, for its owner."""

    def __init__(self, *, keys: TaskTokenKeys, issuer: str, audience: str, ttl_seconds: int) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._ttl_seconds = ttl_seconds
        self._header = _base64url(_json({"alg": TASK_ALGORITHM, "kid": keys.first, "typ": TASK_TYPE}).encode())
        self._owners = lru_cache(1024)(self._claims_of_owner)

    def issue(self, task_id: UUID, owner: Owner) -> str:
        """Return a token (`typ: task+jwt`) that opens this task's status, events, result and cancellation."""
        now = int(time.time())
        # Written and signed here (RFC 7515, section 5.1): python-jose takes three times as long, for each submission.
        claims = (
            f'{self._owners(owner)},"task_id":"{id_text(task_id)}","scope":"{SCOPES}",'
            f'"iat":{now},"exp":{now + self._ttl_seconds}}}'
        )
        signed = self._header + b"." + _base64url(claims.encode())
        key = self._keys.key(self._keys.first, task_id, SCOPES)
        signature = hmac.digest(key.encode(), signed, "sha256")
        return (signed + b"." + _base64url(signature)).decode()

    def _claims_of_owner(self, owner: Owner) -> str:
        """Return how the claims of all tokens of an owner begin."""
        claims = {"iss": self._issuer, "aud": self._audience, "sub": owner.subject, "owner_iss": owner.issuer}
        return _json(claims).removesuffix("}")


def _json(part: Mapping[str, Any]) -> str:
    return json.dumps(part, separators=(",", ":"))


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def mint_access_token(
    *, secret: str, issuer: str, audience: str, subject: str, scopes: str | None, ttl_seconds: int
) -> str:
    """Return an HS256 access token (RFC 9068), for development: in production an identity provider issues them."""
    now = int(time.time())
    claims: dict[str, Any] = {"iss": issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + ttl_seconds}
    claims |= {"client_id": subject, "jti": uuid4().hex}
    if scopes is not None:
        claims["scope"] = scopes
    return jwt.encode(claims, secret, algorithm="HS256", headers={"typ": "at+jwt"})


def _part(token: str, place: int) -> dict[str, Any]:
    """Read a token's header (0) or claims (1), of which nothing is known to be true yet."""
    text = token.split(".")[place]
    part = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(part, dict):
        raise TypeError("not an object")
    return part


def _require_plain(header: Mapping[str, Any], algorithm: str) -> None:
    if header.get("alg") != algorithm or FORBIDDEN_HEADERS & header.keys():
        raise ValueError("another algorithm than ours, or a header that may name a key")


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
