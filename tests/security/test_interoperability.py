"""What we verify and sign is what another implementation, joserfc, signs and verifies."""

import json
import time
from typing import Any
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey

from app.domain.errors import Unauthorized
from app.domain.task import Owner
from app.security.key_sets import FixedKey, public_keys
from app.security.task_tokens import SCOPES, TaskTokenKeys
from app.security.tokens import TaskTokenIssuer, TokenVerifier, mint_access_token
from tests.security.forging import AUDIENCE, ISSUER, SUBJECT, good_claims

SECRET = "0123456789abcdef0123456789abcdef"
TASK_KEYS = TaskTokenKeys({"k": b"t" * 32})
Key = ECKey | OctKey | RSAKey


def _keys(algorithm: str) -> tuple[Key, str]:
    """Return a key that joserfc signs with, and what our verifier is configured with."""
    if algorithm == "HS256":
        return OctKey.import_key(SECRET), SECRET
    key: RSAKey | ECKey = RSAKey.generate_key(2048) if algorithm == "RS256" else ECKey.generate_key("P-256")
    return key, key.as_pem(private=False).decode()


def _verifier(algorithm: str, key: str, **changes: Any) -> TokenVerifier:
    return TokenVerifier(
        algorithm=algorithm,
        keys=FixedKey(key),
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway_seconds=30,
        task_keys=TASK_KEYS,
        **changes,
    )


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
async def test_what_joserfc_signs_is_accepted(algorithm: str) -> None:
    key, configured = _keys(algorithm)
    for kind in ("JWT", "at+jwt"):
        token = jwt.encode({"alg": algorithm, "typ": kind}, good_claims(scope="a b"), key)
        principal = await _verifier(algorithm, configured).verify(token)
        assert (principal.owner.subject, principal.scopes) == (SUBJECT, frozenset({"a", "b"}))
    forged = jwt.encode(
        {"alg": algorithm},
        good_claims(),
        _keys(algorithm)[0] if algorithm != "HS256" else OctKey.import_key(SECRET[::-1]),
    )
    with pytest.raises(Unauthorized):
        await _verifier(algorithm, configured).verify(forged)


@pytest.mark.parametrize(("algorithm", "kind"), [("RS256", RSAKey), ("ES256", ECKey)])
def test_a_key_set_of_joserfc_is_read(algorithm: Any, kind: Any) -> None:
    key = kind.generate_key(2048 if algorithm == "RS256" else "P-256", {"kid": "x"})
    document = json.dumps({"keys": [key.as_dict(private=False)]}).encode()
    assert public_keys(document, algorithm) == {"x": key.as_pem(private=False).decode()}


def test_what_we_mint_is_an_access_token_to_joserfc() -> None:
    token = mint_access_token(
        secret=SECRET, issuer=ISSUER, audience=AUDIENCE, subject="alice", scopes="workload:read", ttl_seconds=60
    )
    read = jwt.decode(token, OctKey.import_key(SECRET), algorithms=["HS256"])
    assert read.header == {"alg": "HS256", "typ": "at+jwt"}
    assert read.claims.keys() == {
        "iss",
        "aud",
        "sub",
        "client_id",
        "jti",
        "iat",
        "exp",
        "scope",
    }  # RFC 9068, section 2.2
    assert read.claims["exp"] - read.claims["iat"] == 60


def test_a_task_token_verifies_under_its_own_key_and_no_other() -> None:
    task_id = uuid4()
    token = TaskTokenIssuer(keys=TASK_KEYS, issuer=ISSUER, audience=AUDIENCE, ttl_seconds=60).issue(
        task_id, Owner(ISSUER, SUBJECT)
    )
    own = OctKey.import_key(TASK_KEYS.key("k", task_id, SCOPES))
    assert jwt.decode(token, own, algorithms=["HS256"]).claims["exp"] > time.time()
    for other in (TASK_KEYS.key("k", uuid4(), SCOPES), TASK_KEYS.key("k", task_id, ""), "t" * 32):
        with pytest.raises(JoseError):
            jwt.decode(token, OctKey.import_key(other), algorithms=["HS256"])


async def test_where_access_tokens_are_asked_for_an_id_token_is_none() -> None:
    key, configured = _keys("ES256")
    strict = _verifier("ES256", configured, only_access_tokens=True)
    for kind in ("at+jwt", "application/at+jwt"):
        assert (await strict.verify(jwt.encode({"alg": "ES256", "typ": kind}, good_claims(), key))).owner.subject
    for header in ({"typ": "JWT"}, {}, {"typ": "id+jwt"}):
        with pytest.raises(Unauthorized):
            await strict.verify(jwt.encode({"alg": "ES256", **header}, good_claims(), key))
