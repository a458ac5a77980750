"""Celery with the clock TEST_CLOCK_OFF_SECONDS off, which is run as `python -m celery` is.

A clock cannot be set for one process alone: what reads it is turned instead, before Celery, Django
and whatever else takes it by a name of its own is imported.
"""

import datetime
import os
import time

off = float(os.environ["TEST_CLOCK_OFF_SECONDS"])
seconds, nanoseconds, right = time.time, time.time_ns, datetime.datetime


class Turning(type):
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, right)


class Turned(right, metaclass=Turning):  # type: ignore[misc, valid-type]
    """Makes nothing but ordinary datetimes, of which `now` is off."""

    def __new__(cls, *args, **kwargs):  # type: ignore[no-untyped-def]
        return right(*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return right.now(tz) + datetime.timedelta(seconds=off)


if __name__ == "__main__":
    time.time = lambda: seconds() + off
    time.time_ns = lambda: nanoseconds() + int(off * 10**9)
    datetime.datetime = Turned  # type: ignore[misc]
    from celery.__main__ import main

    main()
