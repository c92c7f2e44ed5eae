"""Where keys and secrets are stored, and how to reach Vault."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, model_validator

from monitor.config import words
from monitor.config.options.values import (
    URL,
    Authorities,
    Interval,
    OneOf,
    Options,
    Parsed,
    Written,
    default_duration,
    resolved,
)
from monitor.core.connection import Source


class SourceOptions(Options):
    """Where a secret is stored: one source."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})
    removed: ClassVar[Mapping[str, str]] = {
        "directory": "is no longer an option. Write the file: {file: DIRECTORY/tls.key}, or tls.crt.",
        "name": "is no longer an option. Write the file with its directory: {file: DIRECTORY/NAME}.",
    }

    file: Annotated[str | None, Parsed(resolved)] = None
    """A path; a relative one starts at the directory of this file."""
    env: Annotated[str | None, Parsed(words.variable)] = None
    """The name of an environment variable."""
    credential: Annotated[str | None, Parsed(words.credential)] = None
    """The name of a systemd credential."""

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, value: object) -> object:
        """Reject anything but one place. Never repeats the value, which may be the key."""
        if value is None or value == {}:
            raise ValueError("is empty. Write e.g. {file: keys/acme.pem}.")
        if not isinstance(value, dict):
            raise ValueError(  # noqa: TRY004 - pydantic takes ValueError
                "must say where it is stored: {file: PATH}, {env: NAME} or {credential: NAME}."
            )
        known = [key for key in value if key in cls.model_fields and key != "field"]
        if len(known) > 1:
            raise ValueError(f"names {len(known)} sources ({', '.join(known)}). Keep one.")
        if "field" in value and "vault" not in value:
            raise ValueError("has field without vault. Write e.g. {vault: PATH, field: NAME}.")
        return value

    def source(self) -> Source:
        """As a Source."""
        if self.file is not None:
            return Source("file", self.file)
        if self.env is not None:
            return Source("env", self.env)
        return Source("credential", self.credential or "")


class KeyOptions(SourceOptions):
    """Where a key or certificate is stored: one source, with PEM or base64 of PEM (setup guide, step 1)."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 2})

    vault: Annotated[str | None, Parsed(words.vault_path)] = None
    """The path of a secret in HashiCorp Vault, below `vault.mount`."""
    field: Annotated[str | None, Parsed(words.text)] = None
    """Its field. Default: `private_key` or `certificate`."""

    def source_of(self, what: str) -> Source:
        """As the Source of a `private_key` or `certificate`."""
        return Source("vault", self.vault, self.field or what) if self.vault else self.source()


SecretPlace = Annotated[Source, Written(SourceOptions, SourceOptions.source)]
PrivateKey = Annotated[Source, Written(KeyOptions, lambda key: key.source_of("private_key"))]
Certificate = Annotated[Source, Written(KeyOptions, lambda key: key.source_of("certificate"))]


class VaultLoginOptions(Options):
    """How to log in to Vault."""

    method: Annotated[Literal["token", "approle", "kubernetes"], OneOf()]
    """`token`, `approle`, or `kubernetes`."""
    secret: SecretPlace | None = None
    """The token, or AppRole's secret id. For `kubernetes`, the service account's token if it is not in the
    usual place."""
    role: Annotated[str, Parsed(words.text)] = ""
    """AppRole's role id, or the role's name for `kubernetes`."""
    mount: Annotated[str, Parsed(words.vault_path)] = ""
    """Where the method is enabled. Default: the method's name."""

    @property
    def proof(self) -> Source:
        """Our credentials: the token, the secret id, or a pod's service account token in its usual place."""
        return self.secret or Source("file", "/var/run/secrets/kubernetes.io/serviceaccount/token")

    @property
    def mounted_at(self) -> str:
        """The method's mount path."""
        return self.mount or self.method

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.method != "kubernetes" and self.secret is None:
            raise ValueError(
                f"has no secret, but {self.method} needs one. Write e.g. secret: {{file: PATH}}."
            )
        if (self.method == "token") == bool(self.role):
            raise ValueError(
                "has role, which a token does not need. Remove it."
                if self.role
                else f"has no role, but {self.method} needs one."
            )
        return self


class VaultOptions(Options):
    """HashiCorp Vault, for keys stored there in a version 2 key/value store."""

    address: Annotated[str, Parsed(words.vault_address, URL)]
    """E.g. https://vault.example.com:8200. Plain http only on this machine, e.g. for Vault Agent."""
    login: VaultLoginOptions
    """How to log in."""
    mount: Annotated[str, Parsed(words.vault_path)] = "secret"
    """Where the key/value store is mounted."""
    namespace: Annotated[str, Parsed(words.vault_path)] = ""
    """A namespace of Vault Enterprise."""
    ca_file: Authorities | None = None
    """The CA of Vault's own certificate, in PEM, if the system does not trust it."""
    reread: Interval = default_duration(timedelta(minutes=15))
    """How often keys are read again: a rotation in Vault is noticed within that time."""
