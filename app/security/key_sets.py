"""Key sets: the public keys that access tokens are verified with, and where they come from.

One fixed key, or a JSON Web Key Set (RFC 7517) at a URL that the operator has set. A token names a key by its `kid` and
can do no more: never where to fetch one, never its algorithm. The set's document is bounded, and only keys that fit the
configured algorithm are taken from it.

An identity provider that is away must not take the service with it: known keys are served while a newer set is being
fetched, and for a day if it cannot be. Whoever invents key ids must not make us a hammer: an unknown one leads to a
fetch twice a minute at most, whatever is sent.
"""

import asyncio
import contextlib
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from app.domain.errors import StoreUnavailable
from app.imports import without_colour
from app.observability.logging import get_log

with without_colour():
    import httpx

PublicKeyAlgorithm = Literal["RS256", "ES256"]

FRESH_SECONDS: Final = 300.0
"""How long a set is taken as it is."""
STALE_SECONDS: Final = 86_400.0
"""How long it may be used when it cannot be fetched again."""
UNKNOWN_KEY_SECONDS: Final = 30.0
"""How often an unknown `kid` may lead to a fetch."""
RETRY_SECONDS: Final = 5.0
"""How soon a fetch that failed is tried again."""
FETCH_SECONDS: Final = 5.0
MAX_SET_BYTES: Final = 262_144
MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3

log = get_log("keys")


class KeySource(Protocol):
    """Where the keys come from that access tokens are verified with."""

    @property
    def generation(self) -> int:
        """Rises when keys were added or taken away: what was verified before is to be verified again."""
        ...

    async def key_for(self, kid: object) -> str | None:
        """Return the key of this id, None if there is none.

        Args:
            kid: As the token's header has it, of whatever type; None if it has none.

        Raises:
            StoreUnavailable: No key is known at all, and none can be fetched.
        """
        ...


class FixedKey:
    """One key, whatever the token calls it: a secret, or a public key in PEM."""

    generation = 0

    def __init__(self, key: str) -> None:
        self._key = key

    async def key_for(self, kid: object) -> str | None:  # noqa: ARG002  # there is only the one
        """Return the key."""
        return self._key


class KeySet:
    """A JSON Web Key Set at a URL, kept in memory."""

    def __init__(self, url: str, algorithm: PublicKeyAlgorithm, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the place; nothing is fetched yet.

        Args:
            url: `https://…`, `file:///…`, or in development mode `http://` on loopback.
            algorithm: What the keys are for.
            clock: Seconds that only rise.
        """
        self.generation = 0
        self._url = url
        self._algorithm: PublicKeyAlgorithm = algorithm
        self._keys: Mapping[str | None, str] = {}
        self._now = clock
        self._fetched_at = self._tried_at = clock() - STALE_SECONDS
        self._fetching: asyncio.Task[None] | None = None

    async def key_for(self, kid: object) -> str | None:
        """Return the key of this id; a token without one is given the only key there is, if it is the only one."""
        age = self._now() - self._fetched_at
        if age >= STALE_SECONDS:
            self._keys = {}
        known = self._find(kid)
        since_try = self._now() - self._tried_at
        if known is not None:
            if age > FRESH_SECONDS and since_try > RETRY_SECONDS:
                self._fetch()  # beside this request, which goes on with what is known
            return known
        if since_try > (UNKNOWN_KEY_SECONDS if self._keys else RETRY_SECONDS) or self._fetching is not None:
            await asyncio.shield(self._fetch())
        if not self._keys:
            raise StoreUnavailable("The keys that tokens are verified with cannot be fetched at the moment.")
        return self._find(kid)

    def _find(self, kid: object) -> str | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid) if isinstance(kid, str) else None

    def _fetch(self) -> asyncio.Task[None]:
        """Begin a fetch, or join the one that is under way."""
        if self._fetching is None:
            self._tried_at = self._now()
            self._fetching = asyncio.create_task(self._renew(), name="key set")
        return self._fetching

    async def _renew(self) -> None:
        try:
            keys = public_keys(await self._document(), self._algorithm)
        except (httpx.HTTPError, OSError, ValueError, TypeError, KeyError, TimeoutError, RecursionError) as error:
            log.warning("the key set cannot be fetched", url=self._url, error=f"{type(error).__name__}: {error}")
            return
        finally:
            self._fetching = None
        if keys != self._keys:
            log.info("the key set has changed", key_ids=sorted(kid or "(none)" for kid in keys))
            self.generation += 1
        self._keys, self._fetched_at = keys, self._now()

    async def _document(self) -> bytes:
        parts = urlsplit(self._url)
        if parts.scheme == "file":
            return await asyncio.to_thread(_read, Path(unquote(parts.path)))
        async with (
            asyncio.timeout(FETCH_SECONDS),
            # A proxy of the environment is for what lies outside; http is served on loopback only.
            httpx.AsyncClient(
                timeout=FETCH_SECONDS, follow_redirects=False, trust_env=parts.scheme == "https"
            ) as client,
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"the answer was {answer.status_code}")
            document = b""
            async for chunk in answer.aiter_bytes():
                document += chunk
                _require_bounded(document)
            return document


def public_keys(document: bytes, algorithm: PublicKeyAlgorithm) -> dict[str | None, str]:
    """Return the keys of a set that are for this algorithm: key id to PEM. What else stands in it is passed over.

    Raises:
        ValueError, TypeError, KeyError: It is no key set, or has no key for this algorithm.
    """
    found = json.loads(document)["keys"]
    if not isinstance(found, list):
        raise TypeError("`keys` is not a list")
    keys: dict[str | None, str] = {}
    for one in found:
        if not isinstance(one, dict) or not _is_for(one, algorithm):
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError):  # one broken key must not cost the others
            kid = one.get("kid")
            if kid is None or isinstance(kid, str):
                keys.setdefault(kid, _pem_of(one, algorithm))
    if not keys:
        raise ValueError(f"no key in it is for {algorithm}")
    return keys


def _is_for(key: Mapping[str, Any], algorithm: PublicKeyAlgorithm) -> bool:
    operations = key.get("key_ops", ["verify"])
    return (
        key.get("kty") == {"RS256": "RSA", "ES256": "EC"}[algorithm]
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _pem_of(key: Mapping[str, Any], algorithm: PublicKeyAlgorithm) -> str:
    """Write a JWK (RFC 7518, section 6) as PEM; its numbers are checked on the way."""
    public: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    if algorithm == "RS256":
        public = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
    elif key["crv"] == "P-256":
        public = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), ec.SECP256R1()).public_key()
    else:
        raise ValueError("another curve than P-256")
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    require_fitting(pem, algorithm)
    return pem


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def require_fitting(pem: str, algorithm: PublicKeyAlgorithm) -> None:
    """Check a public key in PEM.

    Raises:
        ValueError: It is none, or not for this algorithm; says which.
    """
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise ValueError("not a public key in PEM") from None
    match key:
        case rsa.RSAPublicKey() if algorithm == "RS256":
            if key.key_size < MIN_RSA_BITS:
                raise ValueError(f"an RSA key has {MIN_RSA_BITS} bits or more, and this one {key.key_size}")
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()) if algorithm == "ES256":
            return
        case _:
            raise ValueError(f"not a key for {algorithm}")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        document = file.read(MAX_SET_BYTES + 1)
    _require_bounded(document)
    return document


def _require_bounded(document: bytes) -> None:
    if len(document) > MAX_SET_BYTES:
        raise ValueError(f"it has more than {MAX_SET_BYTES} bytes")
