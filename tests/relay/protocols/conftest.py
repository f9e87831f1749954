"""How hypothesis draws for the protocols: no example is held to a time, for the machine may have other work."""

from hypothesis import settings

settings.register_profile("protocols", deadline=None)
settings.load_profile("protocols")
