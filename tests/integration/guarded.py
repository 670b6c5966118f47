"""A broker with passwords and rights, beside which stands a listener without either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from lab import client
from lab.kafka import Broker
from lab.laboratory import Laboratory
from lab.network import HOST, free_port

_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
USERS = {"reader": "r-pass", "stranger": "s-pass"}
"""The broker's users and their passwords."""


@dataclass(frozen=True)
class Guarded:
    """A broker with passwords and rights.

    :param plain: the broker, with its listener that anybody may use.
    :param bootstrap: its listener for users.
    :param folder: where clients' properties are written.
    """

    plain: Broker
    bootstrap: str
    folder: Path

    def command_config(self, user: str, password: str) -> str:
        """Write a client's properties for a user; return their path."""
        path = self.folder / f"{user}-{len(password)}.properties"
        path.write_text(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n"
            f'sasl.jaas.config={_LOGIN} username="{user}" password="{password}";\n'
        )
        return str(path)

    def allow_describe(self, user: str, group: str) -> None:
        """Let a user describe a group, and none of its topics."""
        describe = AclBinding(
            ResourceType.GROUP, group, ResourcePatternType.LITERAL,
            f"User:{user}", "*", AclOperation.DESCRIBE, AclPermissionType.ALLOW,
        )  # fmt: skip
        admin = client.admin(self.plain.bootstrap)
        for future in admin.create_acls([describe]).values():
            future.result(timeout=20)


@contextmanager
def guarded_broker(lab: Laboratory, *, name: str, home: Path) -> Iterator[Guarded]:
    """Start a broker, and stop it in the end.

    :param home: the folder of its Kafka distribution.
    """
    port, controller, users = free_port(), free_port(), free_port()
    known = " ".join(f'user_{user}="{password}"' for user, password in USERS.items())
    settings = {
        "listeners": f"PLAINTEXT://{HOST}:{port},USERS://{HOST}:{users},"
        f"CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port},USERS://{HOST}:{users}",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "USERS:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.users.plain.sasl.jaas.config": f"{_LOGIN} {known};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    broker = Broker(workspace=lab.workspace, name=name, home=home, settings=settings)
    broker.port, broker.bootstrap = port, f"{HOST}:{port}"
    broker.start()
    try:
        yield Guarded(broker, f"{HOST}:{users}", lab.workspace.directory(f"{name}-clients"))
    finally:
        broker.stop()
