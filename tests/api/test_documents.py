"""OpenAPI is valid, complete, and promises nothing that is not built; the pages load nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from app.api.errors import STATUS
from app.api.pages import PROBLEMS
from app.domain.task import StatusDocument
from app.webhooks.message import WebhookType, webhook_body
from tests.api.staging import Staging
from tests.webhooks.test_message import MOMENT, TASK

OPERATIONS = {
    "/v1/workload": {"get", "post"},
    "/v1/workload/status/{task_id}": {"get"},
    "/v1/workload/{task_id}/result": {"get"},
    "/v1/workload/{task_id}/cancel": {"post"},
    "/v1/workload/{task_id}/retry": {"post"},
    "/v1/workload/{task_id}": {"delete"},
    "/v1/workload/{task_id}/events": {"get"},
    "/v1/workload/{task_id}/logs": {"get"},
    "/v1/tickets": {"post"},
    "/v1/workload/{task_id}/deliveries": {"get"},
    "/v1/workload/{task_id}/deliveries/{delivery_id}/redeliver": {"post"},
    "/v1/webhooks/secret": {"get"},
    "/v1/webhooks/secret/rotate": {"post"},
    "/v1/webhooks/test": {"post"},
    "/v1/actions": {"get"},
    "/v1/admin/queues": {"get"},
    "/v1/admin/queues/{queue}": {"get"},
    "/v1/admin/queues/{queue}/pause": {"post"},
    "/v1/admin/queues/{queue}/resume": {"post"},
    "/v1/admin/workers": {"get"},
    "/v1/admin/tasks": {"get"},
    "/v1/admin/tasks/stalled": {"get"},
    "/v1/admin/tasks/{task_id}": {"get"},
    "/v1/admin/tasks/{task_id}/requeue": {"post"},
    "/v1/admin/tasks/{task_id}/deliveries": {"get"},
    "/v1/admin/tasks/{task_id}/deliveries/{delivery_id}/redeliver": {"post"},
    "/v1/admin/dead-letters": {"get"},
    "/v1/admin/dead-letters/{letter_id}/redrive": {"post"},
    "/v1/admin/dead-letters/{letter_id}/purge": {"post"},
    "/healthz": {"get"},
    "/readyz": {"get"},
}


def checker(contract: dict[str, Any], name: str) -> Draft202012Validator:
    """Return a validator of one of the document's schemas."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": contract["components"]})


def test_the_document_is_valid_openapi(contract: dict[str, Any]) -> None:
    validate(contract)


def test_it_names_what_is_built_and_nothing_else(contract: dict[str, Any]) -> None:
    assert {path: set(operations) for path, operations in contract["paths"].items()} == OPERATIONS
    for word in (
        "priority",
        "deadline",
    ):
        assert f'"{word}' not in str(contract["components"]["schemas"]["Submission"]).replace("'", '"')


def test_it_names_every_webhook(contract: dict[str, Any]) -> None:
    assert contract["webhooks"].keys() == {kind.value for kind in WebhookType}
    body = webhook_body(
        WebhookType.COMPLETED,
        StatusDocument.of(TASK, public_url="https://example.com"),
        at=MOMENT,
        result_url="https://example.com/signed",
    )
    checker(contract, "WebhookBody").validate(json.loads(body))


def test_every_operation_says_how_it_may_be_refused(contract: dict[str, Any]) -> None:
    for path, operations in contract["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert ("security" in operation) == path.startswith("/v1/")
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and path.startswith("/v1/"):
                    assert list(answer["content"]) == ["application/problem+json"]
                    assert int(status) in STATUS.values()
            if path.startswith("/v1/"):
                assert {"401", "403", "431", "500"} <= operation["responses"].keys()


def test_the_ids_of_the_catalogue_are_an_enum(contract: dict[str, Any]) -> None:
    schemas = contract["components"]["schemas"]
    for action in ("GenerateReport", "TransformDataset"):
        assert schemas[action]["properties"]["id"]["enum"] == [1024, 1025]
        assert schemas[action]["additionalProperties"] is False
    mapping = schemas["Submission"]["discriminator"]["mapping"]
    assert mapping.keys() == {"generate_report", "transform_dataset", "noop", "sleep"}


VALID: list[dict[str, Any]] = [
    {"action": "noop", "id": 0}, {"action": "noop", "id": 2**70, "labels": []},
    {"action": "noop", "id": 1, "callback_url": "https://127.0.0.1:1/x"},
    {"action": "noop", "id": 1, "callback_url": "http://127.0.0.1:1/", "callback_events": ["started", "completed"]},
    {"action": "sleep", "seconds": 0.0}, {"action": "sleep", "seconds": 0, "steps": 100_000, "labels": ["a:b/c"]},
]  # fmt: skip
INVALID: list[Any] = [
    {}, [], None, {"action": "noop"}, {"action": "noop", "id": "1"}, {"action": "noop", "id": 1, "x": 1},
    {"action": "noop", "id": 1, "labels": ["a", "a"]}, {"action": "noop", "id": 1, "labels": ["a b"]},
    {"action": "generate_report", "id": 7}, {"action": "sleep", "seconds": -1}, {"action": "noop", "id": -1},
    {"action": "noop", "id": 1, "callback_url": "ftp://127.0.0.1/"}, {"action": "noop", "id": 1, "callback_url": ""},
    {"action": "noop", "id": 1, "callback_events": ["started"]},
    {"action": "noop", "id": 1, "callback_url": "http://127.0.0.1:1/", "callback_events": ["ended"]},
    {"action": "noop", "id": 1, "callback_url": "http://127.0.0.1:1/", "callback_events": ["started", "started"]},
    {"action": "noop", "id": 1, "callback_url": "http://127.0.0.1:1/", "callback_events": []},
    {"action": "noop", "id": 1, "labels": None}, {"action": "noop", "id": 1, "labels": ["x"] * 17},
]  # fmt: skip


@pytest.mark.parametrize("body", VALID + INVALID)
async def test_the_schema_and_the_service_agree_on_a_body(
    body: Any, contract: dict[str, Any], alice: httpx.AsyncClient
) -> None:
    valid = checker(contract, "Submission").is_valid(body)
    assert valid == (body in VALID)
    answer = await alice.post("/v1/workload", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == (202 if valid else 422)


async def test_answers_fit_their_schemas(contract: dict[str, Any], alice: httpx.AsyncClient, staging: Staging) -> None:
    status = checker(contract, "StatusDocument")
    processing, _ = await staging.processing()
    for task_id in (await staging.pending(), processing, await staging.completed(b"x"), await staging.failed()):
        status.validate((await alice.get(f"/v1/workload/status/{task_id}")).json())
    checker(contract, "SecretDocument").validate((await alice.get("/v1/webhooks/secret")).json())
    checker(contract, "SecretDocument").validate((await alice.post("/v1/webhooks/secret/rotate")).json())
    told = (await alice.post("/v1/webhooks/test", json={"callback_url": "http://127.0.0.1:1/"})).json()
    checker(contract, "WebhookAccepted").validate(told)
    checker(contract, "TaskPage").validate((await alice.get("/v1/workload?limit=2")).json())
    checker(contract, "Accepted").validate((await alice.post("/v1/workload", json=VALID[0])).json())
    problem = checker(contract, "Problem")
    problem.validate((await alice.get("/v1/workload?limit=0")).json())
    problem.validate((await alice.post("/v1/workload", json={"action": "noop"})).json())


async def test_the_catalogue_gives_each_action_its_schema_and_limits(
    contract: dict[str, Any], alice: httpx.AsyncClient
) -> None:
    items = (await alice.get("/v1/actions")).json()["items"]
    assert [item["action"] for item in items] == ["generate_report", "transform_dataset", "noop", "sleep"]
    for item in items:
        assert item["description"]
        assert item["limits"]["max_body_bytes"] == 65_536
        schema = Draft202012Validator(item["schema"])
        Draft202012Validator.check_schema(item["schema"])
        for body in VALID:
            assert schema.is_valid(body) == (body["action"] == item["action"])
    assert items[0]["schema"]["properties"]["id"]["enum"] == [1024, 1025]
    assert items[0]["queue"] == "report_gen"


class Assets(HTMLParser):
    """Gathers what a page loads, and where its links lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()
        self.inline = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.inline |= "style" in given or any(name.startswith("on") for name in given)
        if tag == "a":
            self.links.add(given["href"])
        elif tag in ("link", "script", "img", "iframe", "source"):
            self.loaded.add(given.get("href") or given.get("src") or "inline")


@pytest.mark.parametrize("page", ["/docs", "/problems", *(f"/problems/{slug}" for slug in PROBLEMS)])
async def test_a_page_loads_only_what_lies_here(page: str, anybody: httpx.AsyncClient) -> None:
    answer = await anybody.get(page)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assets = Assets(answer.text)
    assert not assets.inline
    for target in assets.loaded | assets.links:
        assert re.fullmatch(r"/[^/].*", target), target
        assert (await anybody.get(target)).status_code == 200, target
    text = re.sub(r"<[^>]+>", "", answer.text)
    assert not re.search(r"\w- \w+(-\w+)*[.<]", text), "a header's name was broken over two lines"


async def test_the_readers_own_files_fetch_nothing_from_elsewhere(anybody: httpx.AsyncClient) -> None:
    script = (await anybody.get("/static/docs.js")).text
    assert '"/openapi.json"' in script
    assert "validatorUrl: null" in script  # else it asks validator.swagger.io
    for name in ("/static/docs.js", "/static/page.css", "/docs/assets/swagger-ui.css"):
        text = (await anybody.get(name)).text
        assert not re.search(r"""(@import|url\(|fetch\(|src=)\s*['"]?(https?:)?//""", text), name


async def test_the_index_names_every_problem(anybody: httpx.AsyncClient) -> None:
    links = Assets((await anybody.get("/problems")).text).links
    assert links == {f"/problems/{slug}" for slug in PROBLEMS}
