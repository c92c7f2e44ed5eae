"""The command line: one module per command (except `run`), and terminal output."""
