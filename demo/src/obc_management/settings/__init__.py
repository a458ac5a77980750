from obc_management.settings.base import *  # noqa: F403
