"""The watch over all connections: when each is looked at, the look itself, and what the fleet knows."""
