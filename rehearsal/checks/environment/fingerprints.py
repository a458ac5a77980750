"""Values that may not be seen, told apart by keyed fingerprints.

The key is Django's SECRET_KEY, which every process of an environment has and no reader of the
broker or the records does: without it, a short value could be found by trying.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

SHOWN = 10
"""Hexadecimal digits of a fingerprint that people are shown."""


def fingerprint(value: str, *about: str, secret: str | None = None) -> str:
    """The HMAC-SHA-256 of a value, in hexadecimal digits.

    Another `about`, the key's name say, gives another fingerprint of the same value. `secret` is
    SECRET_KEY unless given.
    """
    salt = "\0".join(["rehearsal.fingerprint", *about])
    return salted_hmac(salt, value, secret=secret, algorithm="sha256").hexdigest()


def shown(key: str, value: str) -> str:
    """A key with enough of its value's fingerprint for a person to tell two values apart."""
    return f"{key} ({fingerprint(value, key)[:SHOWN]})"


def held(keys: Iterable[str], nonce: str) -> dict[str, Any]:
    """What this process holds for each key, by fingerprints that are good for one question.

    Its environment is asked; for what is not there, the setting of that name. None: neither has it.
    """
    found: dict[str, str | None] = {}
    for key in keys:
        value = os.environ.get(key, getattr(settings, key, None))
        found[key] = fingerprint(value, key, nonce) if isinstance(value, str) else None
    return {"proof": fingerprint("", nonce), "values": found}
