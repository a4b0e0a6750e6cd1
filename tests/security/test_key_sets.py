"""Key sets: keys come and go at the identity provider, and it may be away; whoever invents key ids moves nothing."""

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.domain.errors import StoreUnavailable, Unauthorized
from app.security.key_sets import (
    FRESH_SECONDS,
    MAX_SET_BYTES,
    RETRY_SECONDS,
    STALE_SECONDS,
    UNKNOWN_KEY_SECONDS,
    KeySet,
    public_keys,
    require_fitting,
)
from app.security.task_tokens import TaskTokenKeys
from app.security.tokens import TokenVerifier
from tests.security.forging import AUDIENCE, ISSUER, SUBJECT, b64, good_claims, sign
from tests.security.key_servers import KeyPair, KeyServer, new_pair
from tests.support.clock import Clock
from tests.support.waiting import wait_until

FIRST, SECOND = new_pair("ES256", "first"), new_pair("ES256", "second")
RSA = new_pair("RS256", "rsa")


@pytest.fixture
def clock() -> Clock:
    return Clock(1_000_000.0)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    running = KeyServer(FIRST.jwk())
    yield running
    running.stop()


def verifier_of(keys: KeySet, algorithm: str = "ES256") -> TokenVerifier:
    """Return a verifier that takes its keys from there."""
    return TokenVerifier(
        algorithm=algorithm,
        keys=keys,
        issuer=ISSUER,
        audience=AUDIENCE,
        leeway_seconds=30,
        task_keys=TaskTokenKeys({"k": b"t" * 32}),
    )


async def refused(verifier: TokenVerifier, token: str) -> bool:
    """Whether the verifier refuses it."""
    try:
        await verifier.verify(token)
    except Unauthorized:
        return True
    return False


@pytest.mark.parametrize("pair", [FIRST, RSA], ids=["ES256", "RS256"])
async def test_a_published_key_verifies(pair: KeyPair, server: KeyServer, clock: Clock) -> None:
    server.publish(SECOND.jwk(), pair.jwk(), new_pair("RS256", "another").jwk())
    verifier = verifier_of(KeySet(server.url, pair.algorithm, clock=clock), pair.algorithm)  # type: ignore[arg-type]
    assert (await verifier.verify(pair.sign())).owner.subject == SUBJECT
    assert await refused(verifier, new_pair(pair.algorithm, pair.kid).sign())


async def test_tokens_cost_one_fetch_while_the_set_is_fresh(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    await asyncio.gather(*(verifier.verify(FIRST.sign(jti=str(number))) for number in range(20)))
    clock.now += FRESH_SECONDS - 1
    await verifier.verify(FIRST.sign(jti="later"))
    assert server.asked == 1


async def test_a_new_key_is_accepted_at_once_and_the_old_one_until_it_is_gone(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    await verifier.verify(FIRST.sign())
    server.publish(FIRST.jwk(), SECOND.jwk())
    clock.now += UNKNOWN_KEY_SECONDS + 1
    assert (await verifier.verify(SECOND.sign())).owner.subject == SUBJECT
    assert not await refused(verifier, FIRST.sign())
    assert server.asked == 2

    before = FIRST.sign(jti="verified while the key was good")
    await verifier.verify(before)
    server.publish(SECOND.jwk())
    clock.now += FRESH_SECONDS + 1

    async def withdrawn() -> bool:
        return await refused(verifier, FIRST.sign())

    await wait_until(withdrawn, what="the old key's end")
    assert await refused(verifier, before)  # what was remembered goes with its key
    assert not await refused(verifier, SECOND.sign())


async def test_whoever_invents_key_ids_causes_one_fetch_in_half_a_minute(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    await verifier.verify(FIRST.sign())
    for round_ in range(1, 4):
        clock.now += 31
        together, later = (
            [FIRST.sign(headers={"kid": f"invented {round_} {when} {number}"}) for number in range(10)]
            for when in ("together", "later")
        )
        assert all(await asyncio.gather(*(refused(verifier, token) for token in together)))
        clock.now += 28  # the fetch of those who came together is over, and no new one is begun
        assert all([await refused(verifier, token) for token in later])
        assert server.asked == 1 + round_


async def test_an_unknown_key_is_asked_for_again_after_half_a_minute(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    clock.now += UNKNOWN_KEY_SECONDS + 1
    assert await refused(verifier, SECOND.sign())
    server.publish(SECOND.jwk())
    clock.now += UNKNOWN_KEY_SECONDS - 1
    assert await refused(verifier, SECOND.sign())
    clock.now += 2
    assert not await refused(verifier, SECOND.sign())


async def test_a_known_key_serves_for_a_day_while_the_provider_is_away(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    await verifier.verify(FIRST.sign())
    server.status = 500
    for hours in (1, 12, 23):
        clock.now = 1_000_000.0 + hours * 3600
        assert not await refused(verifier, FIRST.sign(jti=str(hours)))
    clock.now = 1_000_000.0 + STALE_SECONDS + 1
    with pytest.raises(StoreUnavailable):
        await verifier.verify(FIRST.sign(jti="too late"))
    server.status = 200
    clock.now += RETRY_SECONDS + 1
    assert not await refused(verifier, FIRST.sign(jti="back"))


async def test_a_slow_provider_holds_up_nobody_whose_key_is_known(server: KeyServer, clock: Clock) -> None:
    keys = KeySet(server.url, "ES256", clock=clock)
    await keys.key_for("first")
    server.delay = 1.0
    server.publish(FIRST.jwk(), SECOND.jwk())
    clock.now += FRESH_SECONDS + 1
    asked = asyncio.ensure_future(keys.key_for("first"))
    await asyncio.sleep(0)
    assert asked.done()  # no turn of the loop was needed: it has waited for nothing
    assert keys.generation == 1

    async def renewed() -> bool:
        return keys.generation == 2

    await wait_until(renewed, what="the fetch beside it")


async def test_a_request_that_goes_away_takes_no_fetch_with_it(server: KeyServer, clock: Clock) -> None:
    keys = KeySet(server.url, "ES256", clock=clock)
    server.delay = 0.3
    first, second = (asyncio.ensure_future(keys.key_for("first")) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second is not None
    assert server.asked == 1


BROKEN: dict[str, Callable[[KeyServer], None]] = {
    "no JSON": lambda server: setattr(server, "body", b"{"),
    "another object": lambda server: setattr(server, "body", b"{}"),
    "a list": lambda server: setattr(server, "body", b"[]"),
    "nested deep": lambda server: setattr(server, "body", b"[" * 100_000),
    "too large": lambda server: setattr(server, "body", server.body + b" " * MAX_SET_BYTES),
    "no key": lambda server: server.publish(),
    "keys of other kinds": lambda server: server.publish(RSA.jwk(), {"kty": "oct", "k": b64(b"x" * 32)}),
    "404": lambda server: setattr(server, "status", 404),
    "a redirection": lambda server: vars(server).update(status=302, headers={"Location": server.url}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_changes_nothing(name: str, server: KeyServer, clock: Clock) -> None:
    keys = KeySet(server.url, "ES256", clock=clock)
    known = await keys.key_for("first")
    server.publish(FIRST.jwk(), SECOND.jwk())  # so that a broken answer that is believed is noticed
    BROKEN[name](server)
    clock.now += UNKNOWN_KEY_SECONDS + 1
    assert await keys.key_for("second") is None
    assert server.asked == 2
    assert await keys.key_for("first") == known
    assert keys.generation == 1


async def test_without_any_key_the_answer_is_that_it_cannot_be_said(clock: Clock) -> None:
    server = KeyServer()
    server.stop()
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    with pytest.raises(StoreUnavailable):
        await verifier.verify(FIRST.sign())
    assert await refused(verifier, "not.a.token")  # what is no token needs no key to be refused


NOT_FOR_VERIFYING: dict[str, dict[str, Any]] = {
    "encryption": {"use": "enc"}, "signing only": {"use": ..., "key_ops": ["sign"]}, "another alg": {"alg": "ES384"},
    "another curve": {"crv": "P-384"}, "a point off the curve": {"y": b64(b"\1" * 32)}, "no x": {"x": ...},
    "a number for x": {"x": 1}, "a number for kid": {"kid": 7}, "another kty": {"kty": "oct"},
    "operations that are no list": {"key_ops": "verify"},
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FOR_VERIFYING)
def test_what_is_no_key_for_verifying_is_passed_over(name: str) -> None:
    document = json.dumps({"keys": [FIRST.jwk(**NOT_FOR_VERIFYING[name]), SECOND.jwk(), None, 1]}).encode()
    assert public_keys(document, "ES256").keys() == {"second"}


def test_a_short_rsa_key_is_passed_over() -> None:
    short = KeyPair("RS256", rsa.generate_private_key(65537, 1024), "short")
    assert public_keys(json.dumps({"keys": [short.jwk(), RSA.jwk()]}).encode(), "RS256").keys() == {"rsa"}
    with pytest.raises(ValueError, match="2048 bits"):
        require_fitting(short.public().decode(), "RS256")


def test_the_first_of_two_keys_of_one_name_stands() -> None:
    document = json.dumps({"keys": [FIRST.jwk(), SECOND.jwk(kid="first")]}).encode()
    assert public_keys(document, "ES256") == {"first": FIRST.public().decode()}


async def test_a_token_without_a_kid_is_given_the_only_key(server: KeyServer, clock: Clock) -> None:
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    assert not await refused(verifier, FIRST.sign(headers={}))
    server.publish(FIRST.jwk(), SECOND.jwk())
    clock.now += UNKNOWN_KEY_SECONDS + 1
    assert not await refused(verifier, SECOND.sign())
    assert await refused(verifier, FIRST.sign(headers={}, jti="which one?"))


async def test_no_kid_leads_anywhere_else(server: KeyServer, clock: Clock) -> None:
    """Neither to another's key, nor to a file, nor to an error of another kind."""
    verifier = verifier_of(KeySet(server.url, "ES256", clock=clock))
    server.publish(FIRST.jwk(), SECOND.jwk())
    pem = FIRST.public()
    for kid in ("second", "", "../first", "first\0", "FIRST", ["first"], {"kid": "first"}, 1, True, "x" * 5000):
        assert await refused(verifier, FIRST.sign(headers={"kid": kid})), kid
    for secret in (pem, pem.strip(), json.dumps(FIRST.jwk()).encode()):
        for alg in ("HS256", "ES256", "none"):
            assert await refused(verifier, sign(good_claims(), secret, alg=alg, kid="first"))


async def test_a_file_is_a_key_set_too(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "key set.json"
    file.write_text(json.dumps({"keys": [FIRST.jwk()]}))
    verifier = verifier_of(KeySet(file.as_uri(), "ES256", clock=clock))
    assert not await refused(verifier, FIRST.sign())
    file.write_text(json.dumps({"keys": [SECOND.jwk()]}))
    clock.now += UNKNOWN_KEY_SECONDS + 1
    assert not await refused(verifier, SECOND.sign())
    file.unlink()
    clock.now += FRESH_SECONDS + 1
    assert not await refused(verifier, SECOND.sign(jti="again"))


@asynccontextmanager
async def serving_over_tls(directory: Path) -> AsyncIterator[tuple[KeyServer, Path]]:
    """A key server with a certificate of its own making, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = directory / "certificate.pem", directory / "key.pem"
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    server = KeyServer(FIRST.jwk(), tls=context)
    try:
        yield server, pem
    finally:
        server.stop()


async def test_https_is_taken_from_a_known_certificate_only(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with serving_over_tls(tmp_path) as (server, certificate):
        with pytest.raises(StoreUnavailable):
            await KeySet(server.url, "ES256", clock=clock).key_for("first")
        assert server.asked == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await KeySet(server.url, "ES256", clock=clock).key_for("first") is not None
