"""`longhaul webhook verify`: a receiver's check, by hand."""

import os
import subprocess
import time
from pathlib import Path

from app.webhooks.signature import new_secret, signed_headers
from tests.support.service import BIN

BODY = b'{"a":1}'
SECRET = new_secret()


def run(body: bytes, *arguments: str, secret: str | None = SECRET) -> tuple[int, str, str]:
    """Run it with a body on standard input; exit status, output, errors."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LONGHAUL_")} | {"NO_COLOR": "1"}
    if secret:
        environment["LONGHAUL_WEBHOOK_SECRET"] = secret
    done = subprocess.run(
        [BIN / "longhaul", "webhook", "verify", *arguments], input=body, env=environment, capture_output=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def options(timestamp: int) -> list[str]:
    """Return a webhook's headers as options."""
    headers = signed_headers(BODY, webhook_id="msg_1", timestamp=timestamp, secrets=[SECRET])
    return [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]


def test_it_says_what_is_ours_and_what_is_not(tmp_path: Path) -> None:
    now = int(time.time())
    assert run(BODY, *options(now)) == (0, "valid: Standard Webhooks\n", "")
    status, _, words = run(b'{"a":2}', *options(now))
    assert (status, words) == (1, "not valid: webhook-signature is not that of this body under this secret.\n")
    status, _, words = run(BODY, *options(now - 3600))
    assert (status, words) == (1, "not valid: webhook-timestamp is more than five minutes away.\n")
    (tmp_path / "body").write_bytes(BODY)
    (tmp_path / "secret").write_text(SECRET + "\n")
    files = [str(tmp_path / "body"), "--secret-file", str(tmp_path / "secret"), "--at", str(now - 3600)]
    assert run(b"", *files, *options(now - 3600), secret=None)[0] == 0


def test_it_says_what_it_needs() -> None:
    status, _, words = run(BODY, secret=None)
    assert status == 2
    assert "LONGHAUL_WEBHOOK_SECRET" in words
    assert run(BODY, "-H", "no header")[0] == 2
    assert run(BODY)[0] == 1
