"""Settings of all tests; what a test needs is in `needs`."""

import os

from hypothesis import settings

pytest_plugins = ["needs"]

# As in the Makefile: quiet frameworks, and the same numbers on every processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A busy machine is not a fault.
settings.register_profile("lstmbook", deadline=None)
settings.load_profile("lstmbook")
