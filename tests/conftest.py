"""What holds for all tests."""

from hypothesis import settings

# A machine that does other work too is no fault of the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
