"""The configuration: YAML files to Settings, with every problem at once.

`load` and `schema` are the two ways in. `text` reads YAML, `words` knows each kind of value, `options` says
what may be written, `complaints` says what is wrong with it, and `cautions` what is allowed but doubtful.
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
