"""Tokens put together by hand, as an attacker would; python-jose has no part in it."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

ISSUER, AUDIENCE, SUBJECT = "longhaul", "longhaul", "alice"


def b64(raw: bytes) -> str:
    """Return base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def good_claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims, changed; a claim of `...` is left out."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 600} | changes
    return {name: value for name, value in claims.items() if value is not ...}


def sign(claims: Any, key: bytes, *, alg: Any = "HS256", digest: str = "sha256", **header: Any) -> str:
    """Return a token with a correct HMAC, whatever its header says."""
    head = {"alg": alg, "typ": "JWT"} | header
    return sign_raw(
        json.dumps(head).encode(), claims if isinstance(claims, bytes) else json.dumps(claims).encode(), key, digest
    )


def sign_raw(header: bytes, payload: bytes, key: bytes, digest: str = "sha256") -> str:
    """Return a token of these very bytes, with a correct HMAC."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(hmac.new(key, signed.encode(), getattr(hashlib, digest)).digest())}"


def with_wrong_claims(key: bytes) -> dict[str, str]:
    """Return tokens with a good signature and something else that is wrong."""
    now = int(time.time())
    changes: dict[str, dict[str, Any]] = {
        "no exp": {"exp": ...}, "no sub": {"sub": ...}, "no iss": {"iss": ...}, "no aud": {"aud": ...},
        "exp of null": {"exp": None}, "exp as text": {"exp": str(now + 600)}, "exp of true": {"exp": True},
        "exp in a list": {"exp": [now + 600]}, "exp infinite": {"exp": float("inf")}, "exp NaN": {"exp": float("nan")},
        "exp minus infinite": {"exp": float("-inf")}, "expired": {"exp": now - 31}, "expired long ago": {"exp": 0},
        "exp negative": {"exp": -1}, "nbf in the future": {"nbf": now + 90}, "nbf as text": {"nbf": "1"},
        "nbf infinite": {"nbf": float("inf")}, "nbf of true": {"nbf": True}, "iat in the future": {"iat": now + 90},
        "iat as text": {"iat": str(now)}, "iat of true": {"iat": True}, "iat NaN": {"iat": float("nan")},
        "iat infinite": {"iat": float("inf")}, "iat of null": {"iat": None},
        "another iss": {"iss": "evil"}, "iss in a list": {"iss": [ISSUER]}, "iss of null": {"iss": None},
        "iss in an object": {"iss": {ISSUER: 1}}, "another aud": {"aud": "evil"},
        "aud in other letters": {"aud": "Longhaul"},
        "an empty list for aud": {"aud": []}, "other auds": {"aud": ["a", "b"]}, "aud of null": {"aud": None},
        "aud of a number": {"aud": 1}, "numbers for auds": {"aud": [1, AUDIENCE]},
        "aud in an object": {"aud": {AUDIENCE: 1}},
        "an empty sub": {"sub": ""}, "sub of a number": {"sub": 1}, "sub of null": {"sub": None},
        "sub in a list": {"sub": [SUBJECT]}, "half of a surrogate pair in sub": {"sub": "\ud800"},
        "scope in a list": {"scope": ["workload:read"]}, "scope of null": {"scope": None},
        "scope of a number": {"scope": 1},
    }  # fmt: skip
    return {name: sign(good_claims(**change), key) for name, change in changes.items()} | {
        "claims that are a list": sign([], key),
        "claims that are a text": sign("x", key),
        "claims that are null": sign(None, key),
        "claims that are no JSON": sign(b"{", key),
        "claims that are no UTF-8": sign(b'{"sub":"\xff"}', key),
        "empty claims": sign(b"", key),
        "claims nested deep": sign(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", key)[:8192],
        "exp of 1e999": sign(json.dumps(good_claims()).replace('"exp": ', '"exp": 1e999, "x": ').encode(), key),
        "exp of 5000 digits": sign(json.dumps(good_claims()).replace('"exp": ', '"exp": 1' + "0" * 5000).encode(), key),
    }


def with_wrong_headers(key: bytes) -> dict[str, str]:
    """Return tokens whose claims and HMAC are good, and whose header is not."""
    claims = good_claims()
    payload = json.dumps(claims).encode()
    changes: dict[str, dict[str, Any]] = {
        "crit": {"crit": ["exp"]}, "an empty crit": {"crit": []}, "jku": {"jku": "https://evil.example/keys"},
        "jwk": {"jwk": {"kty": "oct", "k": b64(key)}}, "x5u": {"x5u": "https://evil.example/cert"},
        "x5c": {"x5c": ["MII"]},
        "typ of an id token": {"typ": "id+jwt"}, "typ of a logout token": {"typ": "logout+jwt"},
        "typ JWE": {"typ": "JWE"},
        "an empty typ": {"typ": ""}, "typ of a number": {"typ": 1}, "typ in a list": {"typ": ["JWT"]},
        "typ of a task token": {"typ": "task+jwt"},
    }  # fmt: skip
    algorithms: list[Any] = ["none", "None", "NONE", "", "hs256", "HS384", "HS512", "RS256", "ES256", None, 1, [], {}]
    return {name: sign(claims, key, **change) for name, change in changes.items()} | {
        f"alg {alg!r}": sign(claims, key, alg=alg)
        for alg in algorithms
    } | {
        "HS384, truly": sign(claims, key, alg="HS384", digest="sha384"),
        "HS512, truly": sign(claims, key, alg="HS512", digest="sha512"),
        "no alg": sign_raw(b'{"typ":"JWT"}', payload, key),
        "a header that is a list": sign_raw(b'["HS256"]', payload, key),
        "a header that is null": sign_raw(b"null", payload, key),
        "a header that is no JSON": sign_raw(b"{", payload, key),
        "an empty header": sign_raw(b"", payload, key),
        "a header that is no UTF-8": sign_raw(b'{"alg":"HS256","x":"\xff"}', payload, key),
        "a header nested deep": sign_raw(b'{"alg":' + b"[" * 4000 + b"]" * 1000, b"{}", key),
        "a header of brackets": sign_raw(b"[" * 5500, b"{}", key),
        "9 KiB": sign(good_claims(padding="x" * 7000), key),
    }  # fmt: skip


def with_wrong_shape(good: str) -> dict[str, str]:
    """Return what is left of a good token after it was tampered with."""
    header, payload, signature = good.split(".")
    unsigned = b64(b'{"alg":"none","typ":"JWT"}')
    other = b64(json.dumps(good_claims(sub="mallory")).encode())
    return {
        "a word": "token", "a dot": ".", "two dots": "..", "three dots": "...", "spaces": "a b c",
        "one segment": header, "two segments": f"{header}.{payload}", "four segments": f"{good}.x",
        "five, as a JWE has": f"{header}..{payload}.{signature}.x",
        "no signature": f"{header}.{payload}.", "no claims": f"{header}..{signature}",
        "no header": f".{payload}.{signature}",
        "alg none without a signature": f"{unsigned}.{payload}.",
        "alg none with one": f"{unsigned}.{payload}.{signature}",
        "other claims": f"{header}.{other}.{signature}", "a cut signature": f"{header}.{payload}.{signature[:-4]}",
        "another signature": f"{header}.{payload}.{'A' * len(signature)}", "garbage": "é.ü.ß", "a NUL": f"{good}\0",
        "no base64": "!!!.???.***", "CJK": "令.牌.的", "a lone surrogate": "\ud800.\ud800.\ud800",
        "a lot of dots": "." * 9000,
        "an emoji in the claims": f"{header}.{payload}😀.{signature}",
        "a line break": f"{header}\n.{payload}.{signature}",
    }  # fmt: skip
