"""Between the services and their servers: TLS with certificates that are checked, both ways, or no connection."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import TLSVersion
from typing import Any

import pytest
import yaml

from app.broker.connection import connect
from app.domain.errors import BrokerUnavailable, ConfigurationError, StoreUnavailable
from app.settings import TlsSettings, load_settings
from app.store.connection import open_redis, tls_options
from stack.ports import free_port
from stack.servers import RabbitServer, RedisServer, ServerTls
from tests.support.authority import Authority
from tests.support.service import BIN, Service, running_service


@dataclass
class Secured:
    """Servers that speak TLS, and what a client needs to speak to them."""

    redis: RedisServer
    rabbit: RabbitServer
    tls: TlsSettings


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A Redis and a RabbitMQ that ask for certificates, too."""
    directory = tmp_path_factory.mktemp("secured")
    authority = Authority(directory / "authority")
    certificate, key = authority.certify("localhost")
    ours, our_key = authority.certify("longhaul.test")

    def tls() -> ServerTls:
        return ServerTls(port=free_port(), ca=authority.ca, certificate=certificate, key=key)

    redis = RedisServer(directory / "redis", free_port(), die_with_parent=True, tls=tls())
    rabbit = RabbitServer(directory / "rabbit", free_port(3), die_with_parent=True, tls=tls())
    redis.start()
    rabbit.start()
    yield Secured(redis, rabbit, TlsSettings(ca_file=authority.ca, certificate_file=ours, key_file=our_key))
    rabbit.stop()
    redis.stop()


@pytest.fixture(scope="module")
async def service(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service that reaches its servers over TLS alone."""
    directory = tmp_path_factory.mktemp("service")
    tls = {name: str(path) for name, path in secured.tls.model_dump().items()}
    async with running_service(secured.redis, secured.rabbit, directory, tls=tls) as running:
        yield running


async def test_a_task_goes_all_its_way_over_tls(service: Service) -> None:
    settings = service.settings
    assert settings.redis_url.get_secret_value().startswith("rediss://")
    assert settings.amqp_url.get_secret_value().startswith("amqps://")
    assert all("s://" in url for url in service.api_environment.values())
    async with service.client() as client:
        answer = await client.post("/v1/workload", json={"action": "noop", "id": 1})
        assert (await service.ended(client, answer.json()["task_id"]))["status"] == "COMPLETED"


async def refusals(secured: Secured, tls: TlsSettings, *, host: str = "localhost") -> list[str]:
    """Try both servers, which must refuse or be refused; return what an operator reads."""
    said = []
    redis_url = secured.redis.service_url.replace("localhost", host)
    with pytest.raises(StoreUnavailable) as store:
        async with open_redis(redis_url, tls):
            pass
    said.append(store.value.detail)
    with pytest.raises(BrokerUnavailable) as broker:
        await connect(secured.rabbit.service_url.replace("localhost", host), name="test", tls=tls)
    said.append(broker.value.detail)
    for line in said:
        assert "\n" not in line
        assert "worker:" not in line, "no URL"
    return said


async def test_a_server_of_another_authority_is_not_trusted(secured: Secured, tmp_path: Path) -> None:
    other = secured.tls.model_copy(update={"ca_file": Authority(tmp_path / "other").ca})
    for line in await refusals(secured, other):
        assert "its certificate is not trusted" in line
    for line in await refusals(secured, secured.tls.model_copy(update={"ca_file": None})):  # the system's
        assert "its certificate is not trusted" in line


async def test_a_server_of_another_name_is_not_trusted(secured: Secured) -> None:
    """The certificate is for `localhost`, and the very same server is reached as 127.0.0.1."""
    for line in await refusals(secured, secured.tls, host="127.0.0.1"):
        assert "its certificate is not trusted" in line
        assert "mismatch" in line


def test_nothing_older_than_tls_1_2_is_spoken(secured: Secured) -> None:
    assert secured.tls.context().minimum_version == TLSVersion.TLSv1_2
    assert tls_options(secured.redis.service_url, secured.tls)["ssl_min_version"] == TLSVersion.TLSv1_2


async def test_a_client_without_a_certificate_is_not_taken(secured: Secured) -> None:
    for line in await refusals(secured, TlsSettings(ca_file=secured.tls.ca_file)):
        assert "does not answer" in line


async def test_a_service_that_cannot_trust_its_broker_says_so_and_does_not_start(
    service: Service, tmp_path: Path
) -> None:
    values: dict[str, Any] = yaml.safe_load(service.config.read_text())
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {"amqp_url": values["amqp_url"].replace("localhost", "127.0.0.1")}))
    process = await asyncio.create_subprocess_exec(
        BIN / "worker-engine", "--config", config, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = (stream.decode() for stream in await process.communicate())
    assert process.returncode == 1
    assert err.strip().startswith("worker-engine: RabbitMQ does not answer: its certificate is not trusted")
    assert "Traceback" not in out + err


@pytest.mark.parametrize("name", ["redis_url", "amqp_url"])
@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "ssl_check_hostname=false", "no_verify_ssl=1", "cafile=/x"])
def test_a_url_cannot_switch_the_checks_off(service: Service, tmp_path: Path, name: str, query: str) -> None:
    values: dict[str, Any] = yaml.safe_load(service.config.read_text())
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values | {name: f"{values[name]}?{query}"}))
    with pytest.raises(ConfigurationError, match=f"{name}: certificates are always checked"):
        load_settings(config, {})


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"tls\.ca_file: .*nothing cannot be used: No such file"):
        TlsSettings(ca_file=tmp_path / "nothing").context()
    text = tmp_path / "text"
    text.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"tls\.ca_file: .*text cannot be used"):
        TlsSettings(ca_file=text).context()
    authority = Authority(tmp_path / "authority")
    certificate, _ = authority.certify("a.test")
    _, another_key = authority.certify("b.test")
    with pytest.raises(ConfigurationError, match=r"tls\.certificate_file: .* cannot be used: key values mismatch"):
        TlsSettings(certificate_file=certificate, key_file=another_key).context()
