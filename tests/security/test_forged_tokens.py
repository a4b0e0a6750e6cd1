"""The forged-token corpus: every one is a plain 401, and nothing else, whatever python-jose makes of it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from jose import jwt

from app.domain.errors import Unauthorized
from app.security.key_sets import FixedKey
from app.security.principal import DEFAULT_SCOPES
from app.security.task_tokens import TaskTokenKeys
from app.security.tokens import TokenVerifier
from tests.security.forging import (
    AUDIENCE,
    ISSUER,
    SUBJECT,
    good_claims,
    sign,
    with_wrong_claims,
    with_wrong_headers,
    with_wrong_shape,
)

SECRET = "0123456789abcdef0123456789abcdef"
KEY = SECRET.encode()
TASK_KEYS = TaskTokenKeys({"k": b"t" * 32})


@pytest.fixture
def verifier() -> TokenVerifier:
    """A verifier of HS256."""
    return TokenVerifier(
        algorithm="HS256",
        keys=FixedKey(SECRET),
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway_seconds=30,
        task_keys=TASK_KEYS,
    )


CORPORA: dict[str, Callable[[], dict[str, str]]] = {
    "claims": lambda: with_wrong_claims(KEY),
    "headers": lambda: with_wrong_headers(KEY),
    "shape": lambda: with_wrong_shape(sign(good_claims(), KEY)),
}


@pytest.mark.parametrize(("corpus", "name"), [(corpus, name) for corpus in CORPORA for name in CORPORA[corpus]()])
async def test_a_forged_token_is_refused(corpus: str, name: str, verifier: TokenVerifier) -> None:
    token = CORPORA[corpus]()[name]
    with pytest.raises(Unauthorized) as raised:
        await verifier.verify(token)
    assert raised.value.token_was_sent
    assert raised.value.detail == "The bearer token is not valid."


@pytest.mark.parametrize(
    "key", [b"", b"longhaul", KEY + b"0", KEY[:-1], b"t" * 32, (b"t" * 32).hex().encode(), SECRET.upper().encode()]
)
async def test_another_key_signs_nothing(key: bytes, verifier: TokenVerifier) -> None:
    with pytest.raises(Unauthorized):
        await verifier.verify(sign(good_claims(), key))


def good_tokens() -> dict[str, str]:
    """Return tokens that are valid now."""
    return {
        "plain": sign(good_claims(), KEY),
        "without a typ": sign(good_claims(), KEY, typ="jwt"),
        "an access token by RFC 9068": sign(good_claims(), KEY, typ="at+jwt"),
        "the same, in full": sign(good_claims(), KEY, typ="application/at+JWT"),
        "a kid, which is not used": sign(good_claims(), KEY, kid="../../etc/passwd"),
        "without iat": sign(good_claims(iat=...), KEY),
        "several audiences": sign(good_claims(aud=["other", AUDIENCE]), KEY),
        "a fraction in exp (RFC 7519, NumericDate)": sign(good_claims(exp=time.time() + 600.5), KEY),
        "expired within the leeway": sign(good_claims(exp=int(time.time()) - 20), KEY),
        "issued ahead within the leeway": sign(good_claims(iat=int(time.time()) + 20), KEY),
        "valid from ahead within the leeway": sign(good_claims(nbf=int(time.time()) + 20), KEY),
        "exp in milliseconds": sign(good_claims(exp=int(time.time()) * 1000), KEY),
        "exp of 1e300": sign(good_claims(exp=1e300), KEY),
        "exp of 400 digits": sign(good_claims(exp=10**400), KEY),
        "further claims": sign(good_claims(jti="x", email="a@example.org", nested={"a": [1]}), KEY),
    }


@pytest.mark.parametrize("name", good_tokens())
async def test_a_good_token_names_its_caller(name: str, verifier: TokenVerifier) -> None:
    principal = await verifier.verify(good_tokens()[name])
    assert (principal.owner.issuer, principal.owner.subject) == (ISSUER, SUBJECT)
    assert principal.scopes == DEFAULT_SCOPES
    assert principal.only_task is None
    assert isinstance(principal.expires_at, int)
    assert datetime.fromtimestamp(principal.expires_at, UTC)  # a moment that can be reckoned with


async def test_what_python_jose_signs_is_accepted(verifier: TokenVerifier) -> None:
    """Our forger and the library agree on what a token is."""
    assert (await verifier.verify(jwt.encode(good_claims(), SECRET, algorithm="HS256"))).owner.subject == SUBJECT


@pytest.mark.parametrize(
    ("scope", "scopes"), [("", set()), ("a", {"a"}), ("a b", {"a", "b"}), ("  a\tb a ", {"a", "b"})]
)
async def test_a_scope_claim_is_all_there_is(scope: str, scopes: set[str], verifier: TokenVerifier) -> None:
    assert (await verifier.verify(sign(good_claims(scope=scope), KEY))).scopes == scopes


async def test_subjects_are_kept_to_the_letter(verifier: TokenVerifier) -> None:
    for subject in ("Ärger", "a\0b", " ", "x" * 1000, "日本"):
        assert (await verifier.verify(sign(good_claims(sub=subject), KEY))).owner.subject == subject


async def test_a_token_is_valid_up_to_the_end_of_the_leeway(verifier: TokenVerifier) -> None:
    now = int(time.time())
    assert (await verifier.verify(sign(good_claims(exp=now - 25), KEY))).expires_at == now - 25
    with pytest.raises(Unauthorized):
        await verifier.verify(sign(good_claims(exp=now - 31), KEY))
