"""Keys and certificates: read from PEM, judged, held without ever being shown, and used to sign."""
