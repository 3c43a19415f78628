"""Tables of who may use console and API, and of what they did with that. See `monitoring.schema`.

No secret is in here: passwords as Argon2id hashes, sessions, keys and invitations as SHA-256 of random values.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from monitoring.schema_base import RowId, metadata

users = Table(
    "users",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),  # lower case
    Column("role", String(16), nullable=False),  # monitoring.people.contracts.Role
    Column("password_hash", Text, nullable=False),  # Argon2id in PHC form; "": no password was set yet
    Column("disabled", Boolean, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("password_ns", BigInteger, nullable=False),  # when the password was set; 0: never
    Column("signed_in_ns", BigInteger, nullable=False),  # last time; 0: never
    Column("invite_digest", String(64), unique=True),  # of the link with which a password is set; NULL without one
    Column("invite_until_ns", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("digest", String(64), nullable=False, unique=True),  # of the cookie's value
    Column("user_id", BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True),  # NULL: a settings' token
    Column("token_sha256", String(64)),  # which token of the settings; the session ends when it is no longer there
    Column("begun_ns", BigInteger, nullable=False),
    Column("seen_ns", BigInteger, nullable=False),  # last use, to the minute
    Column("ends_ns", BigInteger, nullable=False, index=True),  # whatever happens
    Column("agent", String(200), nullable=False),  # what the browser calls itself
    Column("address", String(64), nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),  # how it begins, so that people know it again
    Column("role", String(16), nullable=False),
    Column("models", JSON, nullable=False),  # the only models that it may see; []: every one
    Column("created_ns", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("expires_ns", BigInteger, nullable=False),  # 0: never
    Column("used_ns", BigInteger, nullable=False),  # last use, to the minute; 0: never
    Column("revoked_ns", BigInteger, nullable=False),  # 0: it holds
)

sign_in_tries = Table(
    "sign_in_tries",
    metadata,
    Column("subject", String(80), primary_key=True),  # "name:" + a digest, or "address:" + an address
    Column("failures", Integer, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    Column("wait_until_ns", BigInteger, nullable=False),
)

audit_events = Table(  # rows are only ever added: triggers of the database refuse the rest
    "audit_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("kind", String(32), nullable=False),  # monitoring.people.audit.AuditKind
    Column("subject", String(100), nullable=False),  # whom or what it is about
    Column("detail", JSON, nullable=False),
    Column("address", String(64), nullable=False),
    Index("ix_audit_events_time_ns", "time_ns"),
)
