"""Why a database may not be replaced."""


class Refused(Exception):
    """What was expected of the database, what was found, and the remedy; nothing was changed."""
