"""The configuration: parses YAML files into Settings, reporting all problems at once.

Entry points: `load` and `schema`. `files` and `text` read YAML, `words` parses each kind of value, `options`
declares the options, `document` validates a file's, `settings` adds derived values, `complaints` words the
errors, and `cautions` the warnings. `web_file` reads the web configuration file; `editing` writes a rotation
into a configuration.
"""

from monitor.config.load import load, schema
from monitor.config.options import SinkOptions
from monitor.config.options.sources import VaultOptions
from monitor.config.problem import ConfigError, Problem
from monitor.config.settings import Settings
from monitor.config.web_file import WebConfig, load_web_config
from monitor.config.words import Address

__all__ = [
    "Address",
    "ConfigError",
    "Problem",
    "Settings",
    "SinkOptions",
    "VaultOptions",
    "WebConfig",
    "load",
    "load_web_config",
    "schema",
]
