"""Checks that only one kind of project has a use for."""
