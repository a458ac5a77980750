"""One GET, bounded in time and size, that follows nothing and believes nothing by halves."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_BODY = 32 << 20
"""Bytes of an answer that are read."""


class NoAnswer(Exception):
    """There is no answer to believe: what came instead, without the address's secrets."""


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    seconds: float


def get(url: str, headers: Mapping[str, str], *, timeout: float = 10) -> Answer:
    """What the server answers, whole; redirects are not followed, so no header goes elsewhere.

    Raises NoAnswer when nobody answers in time, or the answer is cut off or too large.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    began = time.perf_counter()
    try:
        connection.request("GET", target, headers={"Connection": "close", **headers})
        response = connection.getresponse()
        body = bytearray()
        while chunk := response.read(1 << 16):
            body += chunk
            if len(body) > MAX_BODY:
                raise NoAnswer(f"its answer is larger than {MAX_BODY >> 20} MB")
            if time.perf_counter() - began > 3 * timeout:
                raise NoAnswer(f"its answer did not end within {3 * timeout:.0f} s")
        if response.length:
            raise NoAnswer(f"its answer was cut off {response.length} bytes before its end")
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, told, bytes(body), time.perf_counter() - began)
    except http.client.IncompleteRead as error:
        raise NoAnswer(f"its answer was cut off ({error})") from None
    except ssl.SSLError as error:
        raise NoAnswer(f"its certificate or TLS is not accepted ({error.reason})") from None
    except TimeoutError:
        raise NoAnswer(f"it did not answer within {timeout:.0f} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # a length below 0
        said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise NoAnswer(f"it cannot be reached ({said})") from None
    finally:
        connection.close()


def get_json(url: str, headers: Mapping[str, str], *, timeout: float = 10) -> Any:
    """The JSON that the server answers with status 200; raises NoAnswer for anything else."""
    answer = get(url, {"Accept": "application/json", **headers}, timeout=timeout)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if 300 <= answer.status < 400:
        raise NoAnswer(f"it answered {answer.status}, a redirect, as a sign-in does")
    if answer.status in (401, 403):
        raise NoAnswer(f"it answered {answer.status}: the token is missing, wrong or not permitted")
    if answer.status != 200:
        raise NoAnswer(f"it answered {answer.status}")
    if kind != "application/json":
        raise NoAnswer(f"it answered {kind or 'something'} where JSON was expected")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise NoAnswer("its JSON is broken or cut off") from None
