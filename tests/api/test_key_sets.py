"""A service whose tokens are an identity provider's, and which pages of another origin may call."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from stack.servers import RabbitServer, RedisServer
from tests.api.conftest import NO_TLS
from tests.api.problems import problem_of
from tests.api.sockets import opened
from tests.security.forging import good_claims, sign, with_wrong_claims, with_wrong_headers, with_wrong_shape
from tests.security.key_servers import KeyServer, new_pair
from tests.support.service import Service, running_service

OLD, NEW = new_pair("ES256", "old"), new_pair("ES256", "new")
PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def provider() -> Iterator[KeyServer]:
    server = KeyServer(OLD.jwk(), NEW.jwk())
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def trusting(
    provider: KeyServer,
    own_redis: RedisServer,
    rabbit_server: RabbitServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Service]:
    """A service that takes its keys from the provider."""
    jwt = {"algorithm": "ES256", "jwks_url": provider.url}
    directory = tmp_path_factory.mktemp("trusting")
    async with running_service(own_redis, rabbit_server, directory, workers=0, jwt=jwt, cors_origins=[PAGE]) as service:
        yield service


@pytest.fixture
async def caller(trusting: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=trusting.base_url, timeout=20, verify=NO_TLS) as client:
        yield client


async def test_tokens_under_any_published_key_open(caller: httpx.AsyncClient, trusting: Service) -> None:
    async def status_of(token: str) -> int:
        return (await caller.get("/v1/workload", headers={"Authorization": f"Bearer {token}"})).status_code

    for pair in (OLD, NEW):
        assert await status_of(pair.sign()) == 200
        assert await status_of(pair.sign(exp=1)) == 401
        async with opened(trusting, "no-uuid", pair.sign()) as socket:
            assert await socket.code() == 4404


async def test_forged_tokens_are_401_over_http_and_4401_over_websocket(
    caller: httpx.AsyncClient, trusting: Service, provider: KeyServer
) -> None:
    pem = OLD.public()
    secrets = [pem, pem.strip(), OLD.public(Encoding.DER), b"", provider.body]
    corpus = {
        **with_wrong_claims(pem),
        **with_wrong_headers(pem),
        **with_wrong_shape(OLD.sign()),
        **{f"HS256 {number}": sign(good_claims(), secret, kid="old") for number, secret in enumerate(secrets)},
        **{
            f"ES256 {number}": sign(good_claims(), secret, alg="ES256", kid="old")
            for number, secret in enumerate(secrets)
        },
        "another's key under a known name": new_pair("ES256", "old").sign(),
        "a key nobody has": new_pair("ES256", "invented").sign(),
        "a kid that is a path": OLD.sign(headers={"kid": "../../dev/null"}),
        "a kid that is a list": OLD.sign(headers={"kid": ["old"]}),
        "its own key": OLD.sign(headers={"kid": "old", "jwk": OLD.jwk()}),
        "its own key set": OLD.sign(headers={"kid": "old", "jku": provider.url}),
        "its own certificate": OLD.sign(headers={"kid": "old", "x5u": provider.url}),
        "RS256": new_pair("RS256", "old").sign(),
    }
    asked = provider.asked
    for name, token in corpus.items():
        if not token.isprintable() or not token.isascii():
            continue  # cannot be sent
        answer = await caller.get("/v1/workload", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401, (name, answer.text)
        problem_of(answer, "unauthorized")
        if len(token) < 8000 and " " not in token:  # uvicorn answers no handshake with a longer header line
            async with opened(trusting, "no-uuid", token) as socket:
                assert await socket.code() == 4401, name
    assert provider.asked <= asked + 2  # however many keys were invented


async def test_a_page_of_an_allowed_origin_may_call(caller: httpx.AsyncClient) -> None:
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    wanted = "authorization, content-type, idempotency-key, last-event-id, prefer, traceparent"
    answer = await caller.options("/v1/workload", headers=preflight | {"Access-Control-Request-Headers": wanted})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "x-request-id" in answer.headers
    answer = await caller.get("/v1/workload", headers={"Origin": PAGE, "Authorization": f"Bearer {OLD.sign()}"})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in answer.headers
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"location", "retry-after", "etag", "x-request-id", "www-authenticate", "link", "ratelimit"} <= exposed
    refusal = await caller.get("/v1/workload", headers={"Origin": PAGE})
    assert refusal.status_code == 401
    assert refusal.headers["access-control-allow-origin"] == PAGE  # so that the page can read why


async def test_a_page_of_another_origin_may_not(caller: httpx.AsyncClient, trusting: Service, service: Service) -> None:
    for origin in ("https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"):
        answer = await caller.get("/v1/workload", headers={"Origin": origin, "Authorization": f"Bearer {OLD.sign()}"})
        assert "access-control-allow-origin" not in answer.headers
        answer = await caller.options(
            "/v1/workload", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in answer.headers
        async with opened(trusting, "no-uuid", OLD.sign(), origin=origin) as socket:
            assert await socket.code() == 4403
    async with opened(trusting, "no-uuid", OLD.sign(), origin=PAGE) as socket:
        assert await socket.code() == 4404
    async with httpx.AsyncClient(base_url=service.base_url, verify=NO_TLS) as client:  # no origin is allowed by default
        answer = await client.get("/healthz", headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers
