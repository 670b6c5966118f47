#!/bin/sh
# Describes, lists, resets and deletes consumer groups; --help says how.
exec "$(dirname "$0")/kafka-run-class.sh" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"
