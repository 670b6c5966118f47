"""The laboratory: real Kafka brokers, MirrorMaker, sshd, Elasticsearch and Airflow on one machine.

Tests, the demo and the benchmarks start these parts from Python and read from them what the package
under test ought to have seen. Everything listens on 127.0.0.1 only, nothing survives its starter.

``lab.laboratory.Laboratory`` starts all of it; ``python -m lab up`` does so from a shell.
"""
