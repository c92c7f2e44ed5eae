"""The configuration: YAML files to Settings, with every problem at once.

`load` and `schema` are the two ways in. `files` and `text` read YAML, `words` knows each kind of value,
`options` says what may be written and what is read, `settings` adds what was found around it, `complaints`
says what is wrong, and `cautions` what is allowed but doubtful. `web_file` reads the file that protects the
pages; `editing` writes a rotation into a configuration.
"""

from monitor.config.load import load, schema
from monitor.config.options import Sink, VaultOptions
from monitor.config.problem import ConfigError, Problem
from monitor.config.settings import Settings
from monitor.config.web_file import WebConfig, load_web_config
from monitor.config.words import Address

__all__ = [
    "Address",
    "ConfigError",
    "Problem",
    "Settings",
    "Sink",
    "VaultOptions",
    "WebConfig",
    "load",
    "load_web_config",
    "schema",
]
