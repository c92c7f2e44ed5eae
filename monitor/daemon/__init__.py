"""The running process: start, reload, stop; changed files; systemd; logs."""
