"""Why no description of a consumer group could be taken; the tree is drawn in ``errors.py``."""

from __future__ import annotations

from airflow_lag_provider.errors_base import LagError


class DescribeError(LagError):
    """No description of the consumer group could be taken."""


class SSHError(DescribeError):
    """The command could not be brought to the MirrorMaker host, or its output not back."""


class SSHUnreachable(SSHError):
    """No SSH session: name not known, no route, refused, closed, or no answer in time."""

    retriable = True
    advice = (
        "Check host and port of the SSH connection, and that its sshd runs and is reachable "
        "from where this task ran."
    )


class HostKeyNotTrusted(SSHError):
    """The host's key is not among those that the connection trusts."""

    advice = (
        "Compare the key with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), "
        'then put it into the SSH connection\'s extra as "host_key", or into the file that its '
        '"known_hosts" names (default ~/.ssh/known_hosts of the user that runs Airflow).'
    )


class SSHAuthenticationFailed(SSHError):
    """The host refused the user, the key or the password."""

    advice = (
        "Check the login, key_file or private_key, private_key_passphrase and password of the "
        "SSH connection, and the user's authorized_keys on the host."
    )


class SSHConnectionInvalid(SSHError):
    """The Airflow connection is missing, or one of its values can't be used."""

    advice = "Correct the SSH connection in Airflow."


class SSHConnectionNotRead(SSHError):
    """Airflow did not hand out the connection in time; the host was not asked for anything."""

    retriable = True
    advice = (
        "Check Airflow's API server (2.11: its database), and the secrets backend if there is one."
    )


class CommandNotRun(SSHError):
    """The session ended in order, but the user's shell did not run the command as it stands."""

    advice = (
        "The SSH user needs a POSIX shell (sh, bash, dash, zsh) that may run commands: no nologin, "
        "csh, fish, restricted shell or forced command."
    )


class OutputCutOff(SSHError):
    """The session ended before the end marker: what came is not the whole output."""

    retriable = True
    advice = (
        "Look in the host's log for an SSH connection that dropped or a command that somebody "
        "stopped. Nothing of what came is stored. The next describe of the group waits until the "
        "time limit has ended this one on the host."
    )


class DescribeTimedOut(DescribeError):
    """The time limit ended the command before the tool had finished, or its turn did not come."""

    retriable = True
    advice = (
        "Run the command of the task's log on the host and see how long it takes; a broker that "
        "hangs or a host without free CPU are usual. Raise `timeout` if it has to take longer. "
        "Where the message names another describe or other commands, look at those: this one "
        "waited for them and did not begin."
    )


class DescribeKilled(DescribeError):
    """A signal ended the tool on the host."""

    retriable = True
    advice = (
        "Look for the kernel's out-of-memory killer in the host's log and for free memory, and run "
        "the command of the task's log on the host to see whether it hangs."
    )


class ToolNotFound(DescribeError):
    """There is no program at the path of `tool`."""

    advice = "Set `tool` to the path of kafka-consumer-groups.sh on the host."


class ToolNotExecutable(DescribeError):
    """The program at the path of `tool` may not be run by the SSH user."""

    advice = "Make it readable and executable for the SSH user, or correct `tool`."


class ToolBroken(DescribeError):
    """The tool is there, but a part of it is missing or was made for a newer Java."""

    advice = (
        "Compare the installation with Kafka's release archive: bin/kafka-run-class.sh and the "
        "jars of libs/ belong to it. Kafka 4 needs Java 17."
    )


class OptionRefused(DescribeError):
    """The tool does not know an option of the command line, or misses one."""

    advice = "Check that `tool` is kafka-consumer-groups.sh of Kafka 1.1 or newer."


class JavaNotFound(DescribeError):
    """The tool found no Java on the host."""

    advice = "Install Java on the host, or set JAVA_HOME or PATH for sessions without a login."


class JavaFailed(DescribeError):
    """The JVM did not start, or ran out of memory."""

    advice = "Check `jvm_opts` (heap size, options this Java knows) and the host's free memory."


class CommandConfigNotFound(DescribeError):
    """There is no file at the path of `command_config`."""

    advice = "Correct `command_config`, or put the file there."


class CommandConfigNotReadable(DescribeError):
    """The SSH user may not read the file of `command_config`."""

    advice = "Make the file readable for the SSH user."


class ClientConfigInvalid(DescribeError):
    """The tool could not make its Kafka client from the settings it was given."""

    advice = "Check `bootstrap_servers` and the file of `command_config`."


class BrokerUnreachable(DescribeError):
    """The tool found no broker to talk to."""

    retriable = True
    advice = (
        "Check `bootstrap_servers` and that the brokers run and can be reached from the host. A "
        "listener that wants TLS or SASL while `command_config` has none looks the same, and to "
        "newer tools so may a group whose partition of __consumer_offsets has no leader."
    )


class BrokerTimedOut(BrokerUnreachable):
    """A broker was there but did not answer one of the requests in time."""

    advice = "Look for a broker that hangs, a partition without leader, or a topic being deleted."


class CoordinatorNotAvailable(DescribeError):
    """The group has no coordinator at the moment."""

    retriable = True
    advice = "Usual while brokers start; if it stays, check the topic __consumer_offsets."


class AuthenticationFailed(DescribeError):
    """The brokers refused the tool's credentials."""

    advice = (
        "Check the credentials in the file of `command_config`, and with TLS the trust store and "
        "the brokers' names in their certificates."
    )


class AuthorizationDenied(DescribeError):
    """The brokers don't let the tool's user describe the group or its topics."""

    advice = "Grant the user DESCRIBE on the group and on its topics."


class GroupNotFound(DescribeError):
    """The brokers know no such consumer group."""

    advice = (
        "Check `group` and `bootstrap_servers`: MirrorMaker 1 commits on the source cluster. A "
        "tool older than Kafka 3.5 also says this of a living group of the new consumer protocol."
    )


class NotAConsumerGroup(DescribeError):
    """The group exists but is not one of consumers (Kafka Connect, for instance)."""

    advice = "Set `group` to the consumer group of MirrorMaker."


class GroupStateUnknown(DescribeError):
    """The group is in a state that the tool has no name for."""

    retriable = True
    advice = (
        "Tools older than Kafka 3.8 don't know the states in which a group of the new consumer "
        "protocol rebalances; newer tools do."
    )


class TopicNotInGroup(DescribeError):
    """The group's description has no row of the topic."""

    advice = (
        "Check the topic's name and that MirrorMaker's list of topics holds it. A deleted topic "
        "vanishes from its group, and a new one appears with the first commit or assignment."
    )


class NothingPrinted(DescribeError):
    """The tool ended without an error and printed nothing."""

    retriable = True
    advice = (
        "Usually the user may describe the group but not its topics: grant DESCRIBE on them. "
        "Tools of Kafka 2.0 and older also print nothing while a group rebalances."
    )


class OutputNotUnderstood(DescribeError):
    """A line of the output is not what any known version of the tool prints."""

    advice = "Please report the line together with the version of the Kafka tools."


class DescribeFailed(DescribeError):
    """The tool reported an error that has no class of its own; the message carries it."""

    retriable = True
    advice = "Run the command of the task's log on the host to see more."
