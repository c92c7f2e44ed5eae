"""bearerwatch: watches Salesforce OAuth 2.0 JWT Bearer credentials and names the cause of each failure."""

from importlib.metadata import version

__version__ = version("bearerwatch")
