"""The tests' project under the strictest policy, for servers in a process of their own."""

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE

MIDDLEWARE = ["tests.browser.policy.strict", *MIDDLEWARE]
