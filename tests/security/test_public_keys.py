"""RS256 and ES256: the public key verifies, and is no secret that anybody could sign with."""

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from app.domain.errors import Unauthorized
from app.security.key_sets import FixedKey
from app.security.task_tokens import TaskTokenKeys
from app.security.tokens import TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, SUBJECT, good_claims, sign
from tests.security.key_servers import KeyPair, new_pair

ALGORITHMS = ["RS256", "ES256"]


def verifier_of(pair: KeyPair) -> TokenVerifier:
    """Return a verifier that is configured with this one key."""
    return TokenVerifier(
        algorithm=pair.algorithm,
        keys=FixedKey(pair.public().decode()),
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway_seconds=30,
        task_keys=TaskTokenKeys({"k": b"t" * 32}),
    )


@pytest.fixture(scope="module", params=ALGORITHMS)
def pair(request: pytest.FixtureRequest) -> KeyPair:
    """The configured key."""
    return new_pair(request.param)


async def test_a_token_of_the_private_key_is_accepted(pair: KeyPair) -> None:
    assert (await verifier_of(pair).verify(pair.sign())).owner.subject == SUBJECT


async def test_a_token_of_another_key_is_refused(pair: KeyPair) -> None:
    with pytest.raises(Unauthorized):
        await verifier_of(pair).verify(new_pair(pair.algorithm).sign())


async def test_the_public_key_is_no_hmac_secret(pair: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the public key must not be able to sign; python-jose's own refusal, which has had holes
    (CVE-2024-33663), is not asked for it.
    """
    for name in ("is_pem_format", "is_ssh_key"):
        monkeypatch.setattr(f"jose.backends.cryptography_backend.{name}", lambda _: False)
    secrets = [
        pair.public(), pair.public().strip(), pair.public(Encoding.DER), pair.public() + b"\n",
        pair.public().replace(b"\n", b"\r\n"), b"", b"t" * 32, (b"t" * 32).hex().encode(),
    ]  # fmt: skip
    for secret in secrets:
        for alg in ("HS256", pair.algorithm, "none"):
            with pytest.raises(Unauthorized):
                await verifier_of(pair).verify(sign(good_claims(), secret, alg=alg))


async def test_only_the_configured_algorithm_is_accepted(pair: KeyPair) -> None:
    others = {"RS256": ["RS384", "RS512"], "ES256": []}[pair.algorithm]
    for algorithm in others:
        with pytest.raises(Unauthorized):
            await verifier_of(pair).verify(pair.sign(algorithm=algorithm))
    [other] = {*ALGORITHMS} - {pair.algorithm}
    with pytest.raises(Unauthorized):
        await verifier_of(pair).verify(new_pair(other).sign())


async def test_a_signature_changed_by_one_bit_is_refused(pair: KeyPair) -> None:
    token = pair.sign()
    head, _, signature = token.rpartition(".")
    changed = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    with pytest.raises(Unauthorized):
        await verifier_of(pair).verify(f"{head}.{changed}")
