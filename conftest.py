"""All tests, those of plugins too: how long an example of a hypothesis test took says something of the machine, nothing of the code."""

from hypothesis import HealthCheck, settings

settings.register_profile("pluq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pluq")
