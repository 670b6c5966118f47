"""Watch how far Kafka MirrorMaker is behind, from Apache Airflow into Elasticsearch."""

__version__ = "0.1.0"
