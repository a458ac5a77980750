"""The browser tests' project as it is deployed: connections to the databases are kept open."""

from tests.browser.settings import *  # noqa: F403
from tests.browser.settings import DATABASES

DATABASES = {name: {**one, "CONN_MAX_AGE": 600} for name, one in DATABASES.items()}
