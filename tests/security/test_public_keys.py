"""RS256 and ES256: the public key verifies, and is no secret that anybody could sign with."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jose import jwt

from app.domain.errors import Unauthorized
from app.security.tokens import TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, SUBJECT, good_claims, sign

ALGORITHMS = ["RS256", "ES256"]


@dataclass(frozen=True)
class KeyPair:
    """A key in the forms in which it may be passed around."""

    algorithm: str
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def private_pem(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def public(self, encoding: Encoding = Encoding.PEM) -> bytes:
        return self.private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)

    def verifier(self) -> TokenVerifier:
        return TokenVerifier(
            algorithm=self.algorithm,
            key=self.public().decode(),
            issuer=ISSUER,
            audience=AUDIENCE,
            leeway_seconds=30,
            task_key=b"t" * 32,
        )

    def sign(self, *, algorithm: str = "") -> str:
        return jwt.encode(good_claims(), self.private_pem, algorithm=algorithm or self.algorithm)


def new_pair(algorithm: str) -> KeyPair:
    """Make a key pair."""
    if algorithm == "ES256":
        return KeyPair(algorithm, ec.generate_private_key(ec.SECP256R1()))
    return KeyPair(algorithm, rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module", params=ALGORITHMS)
def pair(request: pytest.FixtureRequest) -> KeyPair:
    """The configured key."""
    return new_pair(request.param)


def test_a_token_of_the_private_key_is_accepted(pair: KeyPair) -> None:
    assert pair.verifier().verify(pair.sign()).owner.subject == SUBJECT


def test_a_token_of_another_key_is_refused(pair: KeyPair) -> None:
    with pytest.raises(Unauthorized):
        pair.verifier().verify(new_pair(pair.algorithm).sign())


def test_the_public_key_is_no_hmac_secret(pair: KeyPair) -> None:
    """CVE-2024-33663 and its kin: whoever knows the public key must not be able to sign."""
    secrets = [
        pair.public(), pair.public().strip(), pair.public(Encoding.DER), pair.public() + b"\n",
        pair.public().replace(b"\n", b"\r\n"), b"", b"t" * 32, (b"t" * 32).hex().encode(),
    ]  # fmt: skip
    for secret in secrets:
        for alg in ("HS256", pair.algorithm, "none"):
            with pytest.raises(Unauthorized):
                pair.verifier().verify(sign(good_claims(), secret, alg=alg))


def test_only_the_configured_algorithm_is_accepted(pair: KeyPair) -> None:
    others = {"RS256": ["RS384", "RS512"], "ES256": []}[pair.algorithm]
    for algorithm in others:
        with pytest.raises(Unauthorized):
            pair.verifier().verify(pair.sign(algorithm=algorithm))
    [other] = {*ALGORITHMS} - {pair.algorithm}
    with pytest.raises(Unauthorized):
        pair.verifier().verify(new_pair(other).sign())


def test_a_signature_changed_by_one_bit_is_refused(pair: KeyPair) -> None:
    token = pair.sign()
    head, _, signature = token.rpartition(".")
    changed = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    with pytest.raises(Unauthorized):
        pair.verifier().verify(f"{head}.{changed}")
