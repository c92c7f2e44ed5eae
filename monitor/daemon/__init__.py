"""The daemon process: start, reload, stop; changed files; systemd; logs."""
