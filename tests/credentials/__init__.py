"""A corpus of keys and certificates, sound and malformed, made by the real openssl."""
