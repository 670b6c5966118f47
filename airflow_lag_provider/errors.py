"""The errors of this package.

Each class knows whether a retry can help (``retriable``) and what the person on call can do
(``advice``). The class's name is what a failure document stores as ``error.type``.

    LagError
    ├── ConfigurationError             the configuration file has mistakes
    ├── InvalidRequest                 an operator's argument can't be used
    ├── DescribeError                  no description of the consumer group could be taken
    │   ├── SSHError
    │   │   ├── SSHUnreachable
    │   │   ├── HostKeyNotTrusted
    │   │   ├── SSHAuthenticationFailed
    │   │   ├── SSHConnectionInvalid
    │   │   ├── SSHConnectionNotRead
    │   │   ├── CommandNotRun
    │   │   └── OutputCutOff
    │   ├── DescribeTimedOut
    │   ├── DescribeKilled
    │   ├── ToolNotFound
    │   ├── ToolNotExecutable
    │   ├── ToolBroken
    │   ├── OptionRefused
    │   ├── JavaNotFound
    │   ├── JavaFailed
    │   ├── CommandConfigNotFound
    │   ├── CommandConfigNotReadable
    │   ├── ClientConfigInvalid
    │   ├── BrokerUnreachable
    │   │   └── BrokerTimedOut
    │   ├── CoordinatorNotAvailable
    │   ├── AuthenticationFailed
    │   ├── AuthorizationDenied
    │   ├── GroupNotFound
    │   ├── NotAConsumerGroup
    │   ├── GroupStateUnknown
    │   ├── TopicNotInGroup
    │   ├── NothingPrinted
    │   ├── OutputNotUnderstood
    │   └── DescribeFailed             the tool reported an error that has no class of its own
    ├── StoreError                     a document could not be written or read
    │   ├── ElasticsearchConnectionInvalid
    │   ├── ElasticsearchConnectionNotRead
    │   ├── ElasticsearchUnreachable
    │   ├── ElasticsearchNotTrusted
    │   ├── ElasticsearchTimedOut
    │   ├── ElasticsearchAccessDenied
    │   ├── ElasticsearchOverloaded
    │   ├── IndexBlocked
    │   ├── IndexUnusable
    │   ├── DocumentRefused
    │   ├── DocumentUnreadable
    │   ├── SpoolFull
    │   └── SpoolUnusable
    ├── EndedByAirflow                 Airflow ended the task, and our code could not say why
    └── UnexpectedError                a defect of this package, or something nobody thought of
"""

from __future__ import annotations

from airflow_lag_provider.errors_base import LagError
from airflow_lag_provider.errors_describe import (
    AuthenticationFailed,
    AuthorizationDenied,
    BrokerTimedOut,
    BrokerUnreachable,
    ClientConfigInvalid,
    CommandConfigNotFound,
    CommandConfigNotReadable,
    CommandNotRun,
    CoordinatorNotAvailable,
    DescribeError,
    DescribeFailed,
    DescribeKilled,
    DescribeTimedOut,
    GroupNotFound,
    GroupStateUnknown,
    HostKeyNotTrusted,
    JavaFailed,
    JavaNotFound,
    NotAConsumerGroup,
    NothingPrinted,
    OptionRefused,
    OutputCutOff,
    OutputNotUnderstood,
    SSHAuthenticationFailed,
    SSHConnectionInvalid,
    SSHConnectionNotRead,
    SSHError,
    SSHUnreachable,
    ToolBroken,
    ToolNotExecutable,
    ToolNotFound,
    TopicNotInGroup,
)
from airflow_lag_provider.errors_store import (
    DocumentRefused,
    DocumentUnreadable,
    ElasticsearchAccessDenied,
    ElasticsearchConnectionInvalid,
    ElasticsearchConnectionNotRead,
    ElasticsearchNotTrusted,
    ElasticsearchOverloaded,
    ElasticsearchTimedOut,
    ElasticsearchUnreachable,
    IndexBlocked,
    IndexUnusable,
    SpoolFull,
    SpoolUnusable,
    StoreError,
)

__all__ = [
    "AuthenticationFailed",
    "AuthorizationDenied",
    "BrokerTimedOut",
    "BrokerUnreachable",
    "ClientConfigInvalid",
    "CommandConfigNotFound",
    "CommandConfigNotReadable",
    "CommandNotRun",
    "ConfigurationError",
    "CoordinatorNotAvailable",
    "DescribeError",
    "DescribeFailed",
    "DescribeKilled",
    "DescribeTimedOut",
    "DocumentRefused",
    "DocumentUnreadable",
    "ElasticsearchAccessDenied",
    "ElasticsearchConnectionInvalid",
    "ElasticsearchConnectionNotRead",
    "ElasticsearchNotTrusted",
    "ElasticsearchOverloaded",
    "ElasticsearchTimedOut",
    "ElasticsearchUnreachable",
    "EndedByAirflow",
    "GroupNotFound",
    "GroupStateUnknown",
    "HostKeyNotTrusted",
    "IndexBlocked",
    "IndexUnusable",
    "InvalidRequest",
    "JavaFailed",
    "JavaNotFound",
    "LagError",
    "NotAConsumerGroup",
    "NothingPrinted",
    "OptionRefused",
    "OutputCutOff",
    "OutputNotUnderstood",
    "SSHAuthenticationFailed",
    "SSHConnectionInvalid",
    "SSHConnectionNotRead",
    "SSHError",
    "SSHUnreachable",
    "SpoolFull",
    "SpoolUnusable",
    "StoreError",
    "ToolBroken",
    "ToolNotExecutable",
    "ToolNotFound",
    "TopicNotInGroup",
    "UnexpectedError",
]


class ConfigurationError(LagError):
    """The configuration file can't be used; the message has one line for each mistake."""


class InvalidRequest(LagError):
    """An argument of the operator, after its templates are rendered, can't be used."""

    advice = "Correct the argument, or the template or configuration that it comes from."


class EndedByAirflow(LagError):
    """Airflow ended the task without our code: a lost worker, a time-out, a person.

    It is never raised: its document is left by ``ended.ended_by_airflow``.
    """

    advice = (
        "Look into the logs of Airflow's scheduler and of the worker or triggerer that had the "
        "task, at that time."
    )


class UnexpectedError(LagError):
    """Something that no other class stands for; the task's log has the traceback."""

    retriable = True
    advice = "The task's log has the traceback; please report it."
