"""A body is JSON as strictly as RFC 8259 allows, or it is refused as malformed; then nothing was done."""

import httpx
import pytest

from tests.api.problems import pointers_of, problem_of

JSON = {"Content-Type": "application/json"}


def nested(depth: int) -> bytes:
    """Return a submission that is nested as deep as this; its outermost object counts."""
    return b'{"action":"noop","id":1,"labels":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def keyed(count: int) -> bytes:
    """Return an object of so many keys; what looks like keys inside of a string does not count."""
    unknown = ",".join(f'"k{number}":0' for number in range(count - 1))
    return b'{"action":"a:b:c",' + unknown.encode() + b"}"


MALFORMED = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "a word": b"hello",
    "a cut object": b'{"action":"noop","id":1',
    "two values": b'{"action":"noop","id":1}{"action":"noop","id":1}',
    "a trailing comma": b'{"action":"noop","id":1,}',
    "a comment": b'{"action":"noop","id":1/*one*/}',
    "single quotes": b"{'action':'noop','id':1}",
    "a leading zero": b'{"action":"noop","id":01}',
    "a plus sign": b'{"action":"noop","id":+1}',
    "hexadecimal": b'{"action":"noop","id":0x1}',
    "a raw line break in a string": b'{"action":"noop","id":1,"labels":["a\nb"]}',
    "a key twice": b'{"action":"noop","id":1,"id":2}',
    "a key twice, once escaped": b'{"action":"noop","id":1,"\\u0069d":2}',
    "a key twice, deep inside": b'{"action":"noop","id":1,"x":[{"y":{"a":1,"a":1}}]}',
    "NaN": b'{"action":"sleep","seconds":NaN}',
    "Infinity": b'{"action":"sleep","seconds":Infinity}',
    "-Infinity": b'{"action":"sleep","seconds":-Infinity}',
    "1e999": b'{"action":"sleep","seconds":1e999}',
    "-1e999": b'{"action":"sleep","seconds":-1e999}',
    "an integer of 5000 digits": b'{"action":"noop","id":' + b"9" * 5000 + b"}",
    "nested 33 deep": nested(33),
    "nested 33 deep, in objects": b'{"a":' * 33 + b"1" + b"}" * 33,
    "1001 keys": keyed(1001),
    "nested 30000 deep": b"[" * 30_000,
    "a byte that is not UTF-8": b'{"action":"noop","id":1,"labels":["\xff"]}',
    "an overlong encoding": b'{"action":"noop","id":1,"labels":["\xc0\xaf"]}',
    "a surrogate in UTF-8": b'{"action":"noop","id":1,"labels":["\xed\xa0\x80"]}',
    "half of a surrogate pair": b'{"action":"noop","id":1,"labels":["\\ud800"]}',
    "half of a surrogate pair in a key": b'{"action":"noop","id":1,"\\udfff":1}',
    "surrogates the wrong way round": b'{"action":"noop","id":1,"labels":["\\udc00\\ud800"]}',
    "a byte order mark": b'\xef\xbb\xbf{"action":"noop","id":1}',
    "UTF-16": '{"action":"noop","id":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"action":"noop","id":1}'.encode("utf-16-le"),
    "UTF-32": '{"action":"noop","id":1}'.encode("utf-32-be"),
    "a NUL behind it": b'{"action":"noop","id":1}\0',
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_json_is_malformed_and_nothing_is_accepted(name: str, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", content=MALFORMED[name], headers=JSON)
    assert "errors" not in problem_of(answer, "malformed")
    assert (await alice.get("/v1/workload")).json() == {"items": []}


NO_OBJECT = {
    "null": b"null", "a number": b"1", "a string": b'"noop"', "an array": b'[{"action":"noop","id":1}]', "true": b"true"
}  # fmt: skip


@pytest.mark.parametrize("name", NO_OBJECT)
async def test_json_that_is_no_object_is_read_and_refused(name: str, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", content=NO_OBJECT[name], headers=JSON)
    assert pointers_of(answer) == ["#"]
    assert (await alice.get("/v1/workload")).json() == {"items": []}


async def test_32_levels_are_read(alice: httpx.AsyncClient) -> None:
    """The fault is then the model's, not the depth's."""
    answer = await alice.post("/v1/workload", content=nested(32), headers=JSON)
    assert pointers_of(answer) == ["#/labels/0"]


BRACKETS_IN_STRINGS = {
    "brackets": b'"' + b"[{" * 40 + b'"',
    "brackets behind an escaped quote": b'"\\"' + b"[" * 40 + b'"',
    "brackets behind an escaped backslash": b'"\\\\","' + b"{" * 40 + b'"',
    "quotes and brackets": b'"[\\"[\\\\",' * 40 + b'"["',
}


@pytest.mark.parametrize("name", BRACKETS_IN_STRINGS)
async def test_brackets_in_strings_are_no_levels(name: str, alice: httpx.AsyncClient) -> None:
    body = b'{"action":"noop","id":1,"labels":[' + BRACKETS_IN_STRINGS[name] + b"]}"
    assert set(pointers_of(await alice.post("/v1/workload", content=body, headers=JSON))) <= {
        "#/labels", *(f"#/labels/{number}" for number in range(200)),
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b' \r\n\t{"action" : "noop" , "id" : 1}\r\n',
        b'{"\\u0061ction":"no\\u006fp","id":1}',
        b'{"id":1,"action":"noop","labels":[]}',
        b'{"action":"noop","id":0}',
        b'{"action":"noop","id":-0}',
        b'{"action":"noop","id":9007199254740993}',
        b'{"action":"noop","id":' + b"9" * 400 + b"}",
        b'{"action":"sleep","seconds":1e-3,"steps":1}',
        b'{"action":"sleep","seconds":0}',
    ],
)
async def test_every_spelling_of_a_valid_body_is_accepted(body: bytes, alice: httpx.AsyncClient) -> None:
    answer = await alice.post("/v1/workload", content=body, headers=JSON | {"Idempotency-Key": "k"})
    assert answer.status_code == 202, answer.text


async def test_a_thousand_keys_are_read(alice: httpx.AsyncClient) -> None:
    problem_of(await alice.post("/v1/workload", content=keyed(1000), headers=JSON), "validation")
