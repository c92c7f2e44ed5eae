"""Keys and certificates: reading PEM, checking, keeping them secret, and signing."""
