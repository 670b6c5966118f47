"""The messages of the tool and the error that each of them stands for.

Texts are those of Kafka 0.9 to 4.x and of the JVM's launcher. The first rule that fits decides.
"""

from __future__ import annotations

import re

from airflow_lag_provider import errors
from airflow_lag_provider.errors import DescribeError

# A cause starts with the names of the exceptions it is wrapped in, or directly with its text.
# Anchored there, so that a group or topic named after an exception decides nothing.
_AT = r"^(?:[\w.$]{1,200}: )*"
_CLASS = _AT + r"[\w.$]*"

RULES: tuple[tuple[re.Pattern[str], type[DescribeError], str], ...] = tuple(
    (re.compile(pattern), error, text)
    for pattern, error, text in (
        (
            r"^(?:The )?[Cc]onsumer group ['`].*['`] does not exist or is rebalancing",
            errors.GroupNotFound,
            "Consumer group {group} does not exist or is rebalancing.",
        ),
        (
            r"^(?:The )?[Cc]onsumer group ['`].*['`] does not exist",
            errors.GroupNotFound,
            "Consumer group {group} does not exist.",
        ),
        (
            _AT + r"Group.* is not a consumer group",
            errors.NotAConsumerGroup,
            "{group} is not a group of consumers: {cause}",
        ),
        (
            _CLASS + r"Group(?:Id)?NotFoundException",
            errors.GroupNotFound,
            "Consumer group {group} does not exist: {cause}",
        ),
        (
            _CLASS + r"OutOfMemoryError"
            r"|"
            + _AT
            + r"(?:Java heap space|GC overhead limit|Metaspace|unable to create .*thread)"
            r"|^(?:Terminating|Aborting) due to java\.lang\.OutOfMemoryError"
            r"|^(?:Error: )?(?:Could not create the Java Virtual Machine|Could not reserve enough)"
            r"|^Error occurred during initialization of VM"
            r"|^There is insufficient memory for the Java|^A fatal error has been detected by the"
            r"|^(?:Unrecognized (?:VM )?option: ?'?|Unrecognized VM option|Invalid \w+ heap size)",
            errors.JavaFailed,
            "The JVM of the tool failed: {cause}",
        ),
        (
            r"^(?:Error: )?(?:Could not find or load main class|Unable to initialize main class"
            r"|LinkageError|Unable to access jar)"
            r"|^Classpath is empty"
            r"|" + _CLASS + r"(?:NoClassDefFoundError|UnsupportedClassVersionError)",
            errors.ToolBroken,
            "Java could not run the tool: {cause}",
        ),
        # All that the tool reports of a NoClassDefFoundError is the class.
        (
            r"^[\w$]{1,60}(?:/[\w$]{1,80}){2,20}$",
            errors.ToolBroken,
            "Java found no class {cause}",
        ),
        (
            r"^(?:joptsimple\.|[\w.$]*Option\w*Exception)|.* is not a recognized option"
            r"|^Missing required argument|^Option \S+ (?:requires|is not valid|is invalid)",
            errors.OptionRefused,
            "The tool refused its command line: {cause}",
        ),
        (
            _CLASS + r"NoSuchFileException: (?P<path>.*)"
            r"|" + _CLASS + r"FileNotFoundException: (?P<file>.*) \(No such file or directory\)",
            errors.CommandConfigNotFound,
            "The tool found no file at {path}.",
        ),
        (
            _CLASS + r"AccessDeniedException: (?P<path>.*)"
            r"|" + _CLASS + r"FileNotFoundException: (?P<file>.*) \((?:Permission|Is a)"
            r"|" + _CLASS + r"IOException: Is a directory",
            errors.CommandConfigNotReadable,
            "The tool could not read the file of command_config: {cause}",
        ),
        (
            _AT + r"No resolvable bootstrap urls",
            errors.BrokerUnreachable,
            "None of the bootstrap servers{at} could be resolved on the host.",
        ),
        (
            _AT + r"(?:Invalid value .* for configuration|Missing required configuration"
            r"|Invalid (?:url|port) in bootstrap|You must set either bootstrap|Malformed \\u"
            r"|Could not find a '\w+' entry in the JAAS|JAAS config)"
            r"|" + _CLASS + r"ConfigException"
            r"|" + _AT + r"Failed to (?:create new|construct)",
            errors.ClientConfigInvalid,
            "The tool could not make its Kafka client: {cause}",
        ),
        (
            _CLASS + r"AuthorizationException"
            r"|" + _AT + r"(?:[Nn]ot authorized to|\w+ authorization failed"
            r"|FindCoordinator request for .* failed due to authorization)",
            errors.AuthorizationDenied,
            "The brokers don't allow the description of group {group}: {cause}",
        ),
        (
            _CLASS + r"(?:AuthenticationException|SaslMechanismException|SaslStateException"
            r"|SaslException|SSLHandshakeException)"
            r"|" + _AT + r"(?:Authentication failed|SSL handshake failed)",
            errors.AuthenticationFailed,
            "The brokers and the tool could not authenticate each other: {cause}",
        ),
        (
            _AT + r"Expected a valid consumer group state",
            errors.GroupStateUnknown,
            "The tool does not know the state that group {group} is in: {cause}",
        ),
        (
            _CLASS + r"(?:Coordinator(?:\w*Available|LoadInProgress)|NotCoordinator\w*"
            r"|GroupLoadInProgress)Exception"
            r"|" + _AT + r"(?:The (?:group )?coordinator is (?:not available|loading)"
            r"|The consumer group command timed out while waiting for group to init)",
            errors.CoordinatorNotAvailable,
            "Group {group} has no coordinator at the moment: {cause}",
        ),
        # A try ends with an answer or with a connection that drops, so after many of them the
        # brokers do answer.
        (
            _CLASS + r"TimeoutException.*(?i:find_?coordinator).*\btries=(?:[4-9]|\d{2,})\b",
            errors.CoordinatorNotAvailable,
            "The brokers answer, but none of them coordinates group {group}: {cause}",
        ),
        # FindCoordinator is the first request of a describe: while it waits, no broker answered.
        # Later requests need single brokers, those that lead a partition or coordinate.
        (
            _CLASS + r"TimeoutException.*(?i:find_?coordinator|fetchMetadata)",
            errors.BrokerUnreachable,
            "No broker{at} answered the tool: {cause}",
        ),
        (
            _AT + r"Request METADATA failed on brokers"
            r"|" + _CLASS + r"TimeoutException.*node assignment(?!.*(?i:offset))"
            r"|" + _AT + r"Bootstrap broker .* disconnected",
            errors.BrokerUnreachable,
            "No broker{at} answered the tool: {cause}",
        ),
        (
            _CLASS + r"(?:TimeoutException|DisconnectException)|" + _AT + r"(?:Timed out waiting"
            r"|Request \w+ failed on brokers)",
            errors.BrokerTimedOut,
            "A broker did not answer the tool in time: {cause}",
        ),
    )
)
