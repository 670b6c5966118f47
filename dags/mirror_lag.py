"""A DAG for each mirrored topic (or mirror) of include/mirrors.yaml: all mirrors that are right."""

from airflow_lag_provider.dag_factory import build_dags, mirrors_file

globals().update(build_dags(mirrors_file(__file__)))
