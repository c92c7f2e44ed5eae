"""Where private keys and certificates come from (files, environment, Vault), and how they are made."""
