"""Reads private keys and certificates from files, environment or Vault, and creates them."""
