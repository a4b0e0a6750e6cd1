"""The main job, as its caller lives through it."""

import hashlib
import io
import re
import zipfile

import httpx

from tests.support.service import Service


async def test_a_report_is_ordered_watched_and_downloaded(service: Service, alice: httpx.AsyncClient) -> None:
    """202 at once, progress that only rises, and a file that is what its description says."""
    answer = await alice.post("/v1/workload", json={"action": "generate_report", "id": 1024})
    assert answer.status_code == 202, answer.text
    task = answer.json()
    assert answer.headers["location"] == f"/v1/workload/status/{task['task_id']}"
    assert answer.headers["retry-after"] == "5"

    document = await service.ended(alice, task["task_id"], timeout=60)

    assert document["status"] == "COMPLETED", document
    log = (await alice.get(document["links"]["logs"]["href"])).json()["items"]
    assert [line["line"] for line in log] == [1, 2]
    assert re.fullmatch(r"[0-9,]+ rows of 'Weather telemetry .*'", log[0]["message"])
    assert re.fullmatch(r"found \d+ gaps and \d+ anomalies", log[1]["message"])
    result = await alice.get(f"/v1/workload/{task['task_id']}/result")
    assert result.status_code == 200
    assert hashlib.sha256(result.content).hexdigest() == document["result"]["sha256"]
    assert len(result.content) == document["result"]["size"]
    names = zipfile.ZipFile(io.BytesIO(result.content)).namelist()
    assert any(name.endswith("report.html") for name in names)
