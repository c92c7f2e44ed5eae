"""The command line: a module for each command that does more than start the daemon, and the terminal."""
