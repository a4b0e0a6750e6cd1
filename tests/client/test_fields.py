"""Fields as people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.fields import parse_fields, parse_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1024", 1024),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('"1024"', "1024"),
        ('{"a": [1]}', {"a": [1]}),
        ("1d", "1d"),
        ("True", "True"),
        ("", ""),
        ("a=b", "a=b"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("007", "007"),
        ('{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_where_it_reads_as_json(text: str, value: object) -> None:
    assert parse_value(text) == value


@given(JSON)
def test_every_json_value_can_be_said(value: object) -> None:
    assert parse_fields([f"key={json.dumps(value)}"]) == {"key": value}


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    json.dumps(parse_value(text), allow_nan=False)


def test_pairs_and_body_go_together() -> None:
    assert parse_fields(["every=6h", "url=http://x/?a=b"], '{"id": 7}') == {
        "id": 7,
        "every": "6h",
        "url": "http://x/?a=b",
    }


@pytest.mark.parametrize(
    ("pairs", "body", "says"),
    [
        (["id"], None, "'id' is not of the form key=value"),
        (["=1"], None, "'=1' is not of the form key=value"),
        (["id=1", "id=2"], None, "id is given twice"),
        (["id=1"], '{"id": 2}', "id is given twice"),
        ([], '{"id": 1, "id": 2}', "id is given twice"),
        ([], "[1]", "must be a JSON object"),
        ([], "{", "is not JSON"),
        ([], "", "is not JSON"),
        ([], '{"a": NaN}', "NaN is not a JSON number"),
        ([], '{"a": 1e999}', "too large"),
        ([], '{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(pairs: list[str], body: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_fields(pairs, body)
