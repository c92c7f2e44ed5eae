"""Two keys, for tests that need a sound one and no openssl."""

from tests.certificates import rsa_key

KEYS = [rsa_key("first"), rsa_key("second")]
