#!/bin/sh
# Runs one Java class of Kafka, with the environment variables that the scripts of a Kafka
# distribution know: JAVA_HOME, CLASSPATH, KAFKA_HEAP_OPTS, KAFKA_JVM_PERFORMANCE_OPTS, KAFKA_OPTS,
# KAFKA_LOG4J_OPTS, KAFKA_JMX_OPTS, LOG_DIR.
#
# usage: kafka-run-class.sh CLASS [ARGUMENT...]

if [ $# -lt 1 ]; then
    echo "usage: $0 CLASS [ARGUMENT...]" >&2
    exit 1
fi

base=$(cd "$(dirname "$0")/.." && pwd) || exit 1

for jar in "$base"/libs/*.jar; do
    CLASSPATH=${CLASSPATH:+$CLASSPATH:}$jar
done

if [ -n "$JAVA_HOME" ]; then
    java=$JAVA_HOME/bin/java
else
    java=java
fi

: "${KAFKA_HEAP_OPTS=-Xmx256M}"
: "${LOG_DIR=$base/logs}"
: "${KAFKA_LOG4J_OPTS=-Dlog4j.configuration=file:$base/config/tools-log4j.properties}"
if [ -z "$KAFKA_JVM_PERFORMANCE_OPTS" ]; then
    KAFKA_JVM_PERFORMANCE_OPTS="-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
-XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 \
-Djava.awt.headless=true"
fi
if [ -z "$KAFKA_JMX_OPTS" ]; then
    KAFKA_JMX_OPTS="-Dcom.sun.management.jmxremote=true \
-Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false"
fi

# Each of these variables holds several options, so none of them is quoted.
# shellcheck disable=SC2086
exec "$java" $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS $KAFKA_JMX_OPTS \
    -Dkafka.logs.dir="$LOG_DIR" $KAFKA_LOG4J_OPTS -cp "$CLASSPATH" $KAFKA_OPTS "$@"
