from django.apps import AppConfig


class ManaConfig(AppConfig):
    name = "mana"
