"""No DAG: shows all mistakes of include/mirrors.yaml as the import error of this file.

Airflow takes all DAGs of a file with an import error out of scheduling. Here that stops nothing,
and dags/mirror_lag.py goes on with the mirrors that are right.
"""

from airflow_lag_provider.dag_factory import check_mirrors, mirrors_file

check_mirrors(mirrors_file(__file__))
