"""What schemathesis cannot know from a schema. It loads this module by itself (SCHEMATHESIS_HOOKS)."""

import re
from typing import Any
from uuid import uuid4

import schemathesis

VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Make every valid Idempotency-Key a new one: a used one with another body is refused, as it should be.

    What is meant to be refused is left alone: schemathesis would take a changed request for one that is meant well.
    """
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    for name, value in list((case.headers or {}).items()):
        if name.lower() == "idempotency-key" and VALID_KEY.fullmatch(str(value)):
            case.headers[name] = f"{uuid4().hex}{str(value)[:200]}"
