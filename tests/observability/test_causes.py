"""The cause of an error is found, however the errors hang together."""

import subprocess
import sys

IN_A_CIRCLE = """
import ssl
from app.observability.causes import cause_of

outer, inner = ConnectionError("away"), OSError("reset")
outer.__cause__, inner.__context__ = inner, outer
print(cause_of(outer))
"""


def test_errors_in_a_circle_have_a_cause_too() -> None:
    """As aiormq chains them when RabbitMQ dies: whoever goes round for ever holds up the whole process."""
    done = subprocess.run([sys.executable, "-c", IN_A_CIRCLE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "away"
